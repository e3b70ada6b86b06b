"""The exponential moving average of weights."""

import pytest
import torch

from diffusion_core.ema import EMA


def test_starts_as_a_copy_in_fp32_that_shares_no_memory() -> None:
    source = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2), "n": torch.tensor(3)}
    ema = EMA(source, 0.9)
    source["b"].fill_(5)
    assert ema.weights["a"].dtype == torch.float32
    assert ema.weights["b"].tolist() == [1, 1]
    assert ema.weights["n"].dtype == torch.int64


def test_decay_warms_up_to_the_value_that_was_asked_for() -> None:
    ema = EMA({"a": torch.zeros(1)}, 0.5)
    decays = []
    for _ in range(12):
        decays.append(ema.current_decay)
        ema.update({"a": torch.ones(1)})
    assert decays == [min(0.5, (1 + n) / (10 + n)) for n in range(12)]
    assert decays[0] == 0.1
    assert decays[-1] == 0.5
    assert ema.updates == 12


def test_an_update_mixes_by_the_decay() -> None:
    ema = EMA({"a": torch.zeros(1), "n": torch.tensor(1)}, 0.999)
    ema.update({"a": torch.ones(1), "n": torch.tensor(2)})
    assert ema.weights["a"].item() == pytest.approx(0.9)
    ema.update({"a": torch.ones(1), "n": torch.tensor(3)})
    assert ema.weights["a"].item() == pytest.approx(0.9 * 2 / 11 + 9 / 11)
    assert ema.weights["n"].item() == 3


def test_parameters_that_require_gradients_leave_no_graph() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    ema = EMA({"a": parameter}, 0.9)
    ema.update({"a": parameter})
    assert not ema.weights["a"].requires_grad


def test_a_restored_average_goes_on_bit_equal() -> None:
    torch.manual_seed(0)
    steps = [{"a": torch.randn(50)} for _ in range(20)]
    unbroken = EMA(steps[0], 0.95)
    for weights in steps:
        unbroken.update(weights)
    first = EMA(steps[0], 0.95)
    for weights in steps[:7]:
        first.update(weights)
    second = EMA({name: tensor.clone() for name, tensor in first.weights.items()}, first.decay, first.updates)
    for weights in steps[7:]:
        second.update(weights)
    assert torch.equal(second.weights["a"], unbroken.weights["a"])


def test_other_names_are_refused_and_named() -> None:
    ema = EMA({"a": torch.zeros(1), "b": torch.zeros(1)}, 0.9)
    with pytest.raises(ValueError, match="b, c"):
        ema.update({"a": torch.zeros(1), "c": torch.zeros(1)})
    assert ema.updates == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        EMA({}, decay)
