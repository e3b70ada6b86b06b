"""The judge of digits: good at real ones, not fooled by noise, deterministic."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from diffusion_evaluator.judge import DigitJudge, train_digit_judge


@pytest.fixture(scope="module")
def judge() -> DigitJudge:
    return train_digit_judge()


def real_digits() -> tuple[npt.NDArray[np.uint8], list[int]]:
    """The digits that the judge has not seen, as bytes."""
    pixels, labels = load_digits(return_X_y=True)
    return np.round(pixels[::5].reshape(-1, 8, 8) / 16 * 255).astype(np.uint8), labels[::5].tolist()


def test_real_digits_are_recognised(judge: DigitJudge) -> None:
    images, labels = real_digits()
    assert judge.held_out_accuracy > 0.97
    assert judge.share_recognised(images, labels) == pytest.approx(judge.held_out_accuracy, abs=0.01)


def test_larger_pictures_are_averaged_down(judge: DigitJudge) -> None:
    images, labels = real_digits()
    large = images.repeat(3, axis=1).repeat(3, axis=2)
    assert judge.classify(large).tolist() == judge.classify(images).tolist()
    assert judge.share_recognised(large, labels) > 0.97


def test_noise_and_wrong_digits_are_not_recognised(judge: DigitJudge) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8)).astype(np.uint8)
    assert judge.share_recognised(noise, [n % 10 for n in range(200)]) < 0.3
    images, labels = real_digits()
    assert judge.share_recognised(images, [(label + 1) % 10 for label in labels]) < 0.03


def test_training_is_deterministic(judge: DigitJudge) -> None:
    images, _ = real_digits()
    again = train_digit_judge()
    assert again.held_out_accuracy == judge.held_out_accuracy
    assert again.classify(images).tolist() == judge.classify(images).tolist()


@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 12), (2, 12, 12)])
def test_pictures_of_a_wrong_shape_are_refused(judge: DigitJudge, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        judge.classify(np.zeros(shape, dtype=np.uint8))


def test_floats_are_refused(judge: DigitJudge) -> None:
    with pytest.raises(ValueError, match="float64"):
        judge.classify(np.zeros((1, 8, 8)))  # type: ignore[arg-type] # what is refused


@pytest.mark.parametrize("asked", [[], [1, 2]])
def test_every_picture_needs_an_asked_digit(judge: DigitJudge, asked: list[int]) -> None:
    with pytest.raises(ValueError, match="one asked digit per picture"):
        judge.share_recognised(np.zeros((1, 8, 8), dtype=np.uint8), asked)
