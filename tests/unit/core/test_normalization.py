"""Pixels to the model's range and back."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from diffusion_core.normalization import Normalization, measure_normalization

TWO_CHANNELS = Normalization(minimum=(0.0, -2.0), maximum=(16.0, 2.0))


def test_the_dataset_range_stands_for_minus_one_to_one() -> None:
    pixels = np.array([[0, 8, 16], [-2, 0, 2]], dtype=np.float32).reshape(1, 2, 1, 3)
    x = TWO_CHANNELS.to_model(pixels)
    assert x.dtype == torch.float32
    assert x.flatten().tolist() == [-1, 0, 1, -1, 0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_every_number_type_is_read(dtype: type) -> None:
    pixels: NDArray[np.generic] = np.array([0, 16], dtype=dtype).reshape(1, 1, 1, 2)
    assert Normalization(minimum=(0.0,), maximum=(16.0,)).to_model(pixels).flatten().tolist() == [-1, 1]


def test_pixels_survive_the_way_to_the_model_and_back() -> None:
    pixels = torch.rand(3, 2, 4, 4) * 2
    torch.testing.assert_close(TWO_CHANNELS.to_pixels(TWO_CHANNELS.to_model(pixels)), pixels)


def test_every_byte_survives_the_way_to_the_model_and_back() -> None:
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    normalization = measure_normalization(bytes_)
    assert np.array_equal(normalization.to_uint8(normalization.to_model(bytes_)).numpy(), bytes_)


def test_values_out_of_range_are_cut_off() -> None:
    x = torch.tensor([-5.0, 5.0]).view(1, 1, 1, 2)
    one = Normalization(minimum=(0.0,), maximum=(16.0,))
    assert one.to_uint8(x).flatten().tolist() == [0, 255]
    assert one.to_pixels(x).flatten().tolist() == [0, 16]


def test_bytes_are_measured_by_their_type_and_others_by_what_occurs() -> None:
    dark = np.full((2, 1, 4, 4), 3, dtype=np.uint8)
    assert measure_normalization(dark) == Normalization(minimum=(0.0,), maximum=(255.0,))
    floats = np.zeros((2, 2, 1, 1))
    floats[1] = [[[16]], [[-4]]]
    assert measure_normalization(floats) == Normalization(minimum=(0.0, -4.0), maximum=(16.0, 0.0))


def test_a_constant_channel_gets_a_range_around_it() -> None:
    found = measure_normalization(np.full((2, 1, 1, 1), 7.0))
    assert found == Normalization(minimum=(6.5,), maximum=(7.5,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_datasets_with_nan_or_infinity_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure_normalization(np.array([0.0, bad]).reshape(2, 1, 1, 1))


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (10, 8, 8)])
def test_what_is_not_a_batch_of_samples_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N,C,H,W\]"):
        measure_normalization(np.zeros(shape))


def test_a_batch_with_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[B,2,H,W\]"):
        TWO_CHANNELS.to_uint8(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(("low", "high"), [((0.0,), (1.0, 2.0)), ((1.0,), (1.0,)), ((), ())])
def test_ranges_that_make_no_sense_are_refused(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Normalization(minimum=low, maximum=high)
