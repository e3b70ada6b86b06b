"""A judge of generated digits: a support vector machine that has learned scikit-learn's 1,797 real 8x8 digits.

It tells how many pictures look like the digit that was asked for. It says nothing about how much they vary or how
sharp they are: that is what distances between distributions are for. Training takes about 0.1 s and is deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.svm import SVC

SIDE = 8
"""The judge sees 8x8 pixels; larger pictures are averaged down."""
LARGEST_VALUE = 16.0
"""scikit-learn's digits have grey levels 0..16."""
HELD_OUT = 5
"""Every fifth real digit is kept for measuring the judge."""


@dataclass(frozen=True)
class DigitJudge:
    """A trained judge. `held_out_accuracy` is its share of right answers on real digits that it has not seen."""

    machine: SVC
    held_out_accuracy: float

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """The digit that each picture looks like most, [N]; images: [N,H,W] bytes, H = W a multiple of 8."""
        answers: npt.NDArray[np.int64] = self.machine.predict(_features(images))
        return answers

    def share_recognised(self, images: npt.NDArray[np.uint8], asked: Sequence[int]) -> float:
        """The share (0..1) of pictures that are taken for the digit that was asked for, asked: [N] of 0..9."""
        if len(images) != len(asked) or len(asked) == 0:
            raise ValueError(f"expected one asked digit per picture and at least one, got {len(images)}, {len(asked)}")
        return float(np.mean(self.classify(images) == np.asarray(asked)))


def train_digit_judge() -> DigitJudge:
    """Learn four fifths of the real digits and measure on the rest."""
    digits, labels = load_digits(return_X_y=True)
    held_out = np.arange(len(labels)) % HELD_OUT == 0
    machine = SVC(C=10.0, gamma=0.001).fit(digits[~held_out], labels[~held_out])  # the classic setting for this set
    return DigitJudge(machine, float(machine.score(digits[held_out], labels[held_out])))


def _features(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """[N,H,W] bytes -> [N,64] grey levels 0..16, by averaging square areas."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2] or images.shape[1] % SIDE:
        raise ValueError(f"expected uint8 [N,H,W] with H = W a multiple of 8, got {images.dtype} {list(images.shape)}")
    block = images.shape[1] // SIDE
    areas = images.reshape(len(images), SIDE, block, SIDE, block).mean(axis=(2, 4), dtype=np.float64)
    features: npt.NDArray[np.float64] = areas.reshape(len(images), SIDE * SIDE) / 255 * LARGEST_VALUE
    return features
