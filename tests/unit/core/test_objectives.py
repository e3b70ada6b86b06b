"""The training loss: right targets, and randomness that knows nothing of batches or ranks."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec
from diffusion_core.denoisers import NULL_LABEL, build_denoiser
from diffusion_core.objectives import training_loss
from diffusion_core.randomness import RowRandomness
from diffusion_core.schedules import alphas_cumprod
from tiny_models import COSINE, EPSILON, FLOW, SHIFTED_FLOW, TEN_CLASSES, tiny_dit, tiny_unet

ALL = [EPSILON, COSINE, FLOW, SHIFTED_FLOW]


class Recorder:
    """A denoiser that answers by a function and remembers what it saw."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.answer = answer

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        self.x, self.t, self.labels = x, t, labels
        return self.answer(x, t)


def clean_batch(rows: int) -> Tensor:
    return torch.linspace(-1, 1, rows * 16).view(rows, 1, 4, 4)


def zeros(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("diffusion", [EPSILON, COSINE])
def test_epsilon_of_a_perfect_denoiser_has_no_loss(diffusion: DiffusionSpec) -> None:
    clean = clean_batch(32)
    levels = alphas_cumprod(diffusion.schedule)

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        kept = levels[t.long()].view(-1, 1, 1, 1)
        return (x - kept.sqrt() * clean) / (1 - kept).sqrt()

    loss = training_loss(Recorder(perfect), clean, None, RowRandomness(3, range(32)), tiny_dit(), diffusion)
    assert loss.shape == (32,)
    assert loss.dtype == torch.float32
    assert loss.max() < 1e-4


@pytest.mark.parametrize("diffusion", [FLOW, SHIFTED_FLOW])
def test_flow_of_a_perfect_denoiser_has_no_loss(diffusion: DiffusionSpec) -> None:
    clean = clean_batch(32)

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        return (x - clean) / (t / 1000).view(-1, 1, 1, 1)  # x_s - x_0 = s (eps - x_0)

    loss = training_loss(Recorder(perfect), clean, None, RowRandomness(3, range(32)), tiny_dit(), diffusion)
    assert loss.max() < 1e-4


@pytest.mark.parametrize("diffusion", ALL)
def test_loss_of_a_row_depends_on_its_position_alone(diffusion: DiffusionSpec) -> None:
    """Two ranks with half a batch each draw what one rank with the whole batch draws."""
    clean, network = clean_batch(6), build_denoiser(tiny_unet(size=4))
    whole = training_loss(network, clean, None, RowRandomness(1, range(100, 106)), tiny_unet(size=4), diffusion)
    parts = [
        training_loss(
            network, clean[rows], None, RowRandomness(1, [100 + n for n in rows]), tiny_unet(size=4), diffusion
        )
        for rows in ([0, 2, 4], [1, 3, 5])
    ]
    torch.testing.assert_close(torch.stack(parts, 1).flatten(), whole, atol=1e-6, rtol=1e-5)


def test_seeds_and_positions_change_the_noise() -> None:
    def seen(seed: int, first: int) -> Tensor:
        recorder = Recorder(zeros)
        training_loss(recorder, clean_batch(4), None, RowRandomness(seed, range(first, first + 4)), tiny_dit(), FLOW)
        return recorder.x

    assert torch.equal(seen(1, 0), seen(1, 0))
    assert not torch.isclose(seen(1, 0), seen(2, 0)).any()
    assert not torch.isclose(seen(1, 0), seen(1, 4)).any()


def test_noise_is_the_same_for_every_objective_and_conditioning() -> None:
    """With a clean sample of zeros, a zero answer's loss is the noise's mean square under both objectives."""
    clean, labels = torch.zeros(8, 1, 4, 4), torch.arange(8)
    rows = RowRandomness(5, range(8))
    epsilon = training_loss(Recorder(zeros), clean, None, rows, tiny_dit(), EPSILON)
    flow = training_loss(Recorder(zeros), clean, labels, rows, tiny_dit(TEN_CLASSES), FLOW)
    assert torch.equal(epsilon, flow)


def times_of(diffusion: DiffusionSpec, rows: int = 2000) -> Tensor:
    recorder = Recorder(zeros)
    training_loss(recorder, torch.zeros(rows, 1, 1, 1), None, RowRandomness(0, range(rows)), tiny_dit(), diffusion)
    return recorder.t


def test_epsilon_times_are_uniform_integers() -> None:
    times = times_of(EPSILON)
    assert torch.equal(times, times.round())
    assert times.min() >= 0
    assert times.max() <= 999
    assert abs(times.mean().item() - 499.5) < 20
    assert torch.histc(times, 10, 0, 1000).min() > 150


def test_flow_times_are_logit_normal() -> None:
    times = times_of(FLOW) / 1000
    assert times.min() > 0
    assert times.max() < 1
    logits = torch.logit(times)
    assert abs(logits.mean().item()) < 0.07
    assert abs(logits.std().item() - 1) < 0.07


def test_shift_moves_flow_times_towards_noise() -> None:
    logits = torch.logit(times_of(SHIFTED_FLOW) / 1000)
    assert logits.mean().item() == pytest.approx(math.log(3), abs=0.07)  # the shift adds log(shift) to the logit


def test_labels_are_dropped_at_the_rate_that_was_asked_for() -> None:
    recorder = Recorder(zeros)
    labels = torch.arange(2000) % 10
    rows = RowRandomness(0, range(2000))
    training_loss(recorder, torch.zeros(2000, 1, 1, 1), labels, rows, tiny_dit(TEN_CLASSES), FLOW)
    assert recorder.labels is not None
    dropped = recorder.labels == NULL_LABEL
    assert abs(dropped.float().mean().item() - 0.5) < 0.04
    assert torch.equal(recorder.labels[~dropped], labels[~dropped])


def test_a_model_without_conditioning_is_told_no_labels() -> None:
    recorder = Recorder(zeros)
    training_loss(recorder, clean_batch(4), torch.arange(4), RowRandomness(0, range(4)), tiny_dit(), FLOW)
    assert recorder.labels is None


def test_missing_labels_and_positions_are_refused() -> None:
    rows = RowRandomness(0, range(4))
    with pytest.raises(ValueError, match="needs a label"):
        training_loss(Recorder(zeros), clean_batch(4), None, rows, tiny_dit(TEN_CLASSES), FLOW)
    with pytest.raises(ValueError, match="4 positions for 5 samples"):
        training_loss(Recorder(zeros), clean_batch(5), None, rows, tiny_dit(), FLOW)


@pytest.mark.parametrize("diffusion", [EPSILON, FLOW])
def test_a_few_steps_of_training_lower_the_loss(diffusion: DiffusionSpec) -> None:
    model = tiny_unet(TEN_CLASSES)
    torch.manual_seed(0)
    network = build_denoiser(model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    clean = torch.where(torch.arange(8) < 4, 1.0, -1.0).expand(16, 1, 8, 8)
    losses = []
    for step in range(25):
        rows = RowRandomness(0, range(16 * step, 16 * step + 16))
        loss = training_loss(network, clean, torch.arange(16) % 10, rows, model, diffusion).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
