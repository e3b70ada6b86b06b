"""Step-level batching: images per second in a crowd, and how long a short request waits behind long ones.

The engine's own step loop and painter run the network of the digits example with random weights (speed does not depend
on what it has learned). The baseline of the first figure is the same engine with one row at a time; that of the second
is an engine that batches whole requests, where nothing joins a batch that has begun.
"""

import os
import statistics
import time
from concurrent.futures import Future

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from pydantic import JsonValue
from rich.console import Console

from bench.figure import Figure
from diffusion_contract.run_config import (
    ConditioningSpec,
    DenoiserSpec,
    DiffusionSpec,
    ModelSpec,
    ScheduleSpec,
)
from diffusion_core.denoisers import build_denoiser
from diffusion_core.model_folder import LoadedModel
from diffusion_core.normalization import Normalization
from diffusion_server.opening import painter_of
from diffusion_server.painter import ModelPainter, RowState
from diffusion_server.samples import Sample
from diffusion_server.step_loop import Finished, Outcome, StepLoop

CROWD = 32
STEPS = 10
BATCH = 16
LONG_STEPS, SHORT_STEPS = 50, 4
LONG_REQUESTS = 8
ROUNDS = 3
UNET: dict[str, JsonValue] = {
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


def measure(console: Console) -> list[Figure]:
    """Images per second of a crowd, and the wait of a short request, each against its baseline in the same run."""
    painter = _painter()
    _seconds_for_crowd(painter, BATCH)  # warm-up
    rounds = [(_seconds_for_crowd(painter, BATCH), _seconds_for_crowd(painter, 1)) for _ in range(ROUNDS)]
    batched, alone = (statistics.median(times) for times in zip(*rounds, strict=True))
    console.print(f"  {CROWD / batched:.1f} images/s with {BATCH} rows, {CROWD / alone:.1f} one at a time")
    joined = statistics.median(_wait_when_joining(painter) for _ in range(ROUNDS))
    behind = statistics.median(_wait_behind_a_whole_batch(painter) for _ in range(ROUNDS))
    crowd = f"UNet2D 8x8, {STEPS} steps, {CROWD} requests at once, 1 thread"
    waiting = f"{SHORT_STEPS} steps, arriving in the middle of {LONG_REQUESTS} requests of {LONG_STEPS}"
    ours, baseline = batched / CROWD * 1000, alone / CROWD * 1000
    return [
        Figure("Time per image in a crowd", ours, "ms", "one row at a time", baseline, crowd),
        Figure("A short request among long ones", joined * 1000, "ms", "whole batches", behind * 1000, waiting),
    ]


def _painter() -> ModelPainter:
    torch.manual_seed(0)
    model = ModelSpec(
        denoiser=DenoiserSpec(type="UNet2DModel", sample_size=8, channels=1, config=UNET),
        conditioning=ConditioningSpec(type="Class", classes=10),
    )
    diffusion = DiffusionSpec(schedule=ScheduleSpec(type="FlowMatching"), prediction="Flow")
    normalization = Normalization(minimum=(0.0,), maximum=(16.0,))
    loaded = LoadedModel(build_denoiser(model).eval(), model, diffusion, normalization)
    return painter_of(loaded, "Euler")


def _sample(seed: int, steps: int) -> Sample:
    return Sample(seed=seed, label=seed % 10, steps=steps, guidance_scale=1.0, sampler="Euler")


def _submit(loop: StepLoop[RowState], seed: int, steps: int) -> "Future[Outcome]":
    future: Future[Outcome] = Future()
    loop.submit(_sample(seed, steps), future.set_result)
    return future


def _seconds_for_crowd(painter: ModelPainter, max_rows: int) -> float:
    """Seconds until CROWD requests that come at once are all answered."""
    loop = StepLoop(painter, max_rows, observe=lambda _rows, _seconds: None)
    loop.start()
    began = time.perf_counter()
    futures = [_submit(loop, seed, STEPS) for seed in range(CROWD)]
    assert all(isinstance(future.result(300), Finished) for future in futures)
    seconds = time.perf_counter() - began
    loop.stop()
    return seconds


def _wait_when_joining(painter: ModelPainter) -> float:
    """Seconds of a short request that comes when the long ones are half done."""
    half_done: Future[None] = Future()
    steps = [0]

    def observe(_rows: int, _seconds: float) -> None:
        steps[0] += 1
        if steps[0] == LONG_STEPS // 2:
            half_done.set_result(None)

    loop = StepLoop(painter, BATCH, observe)
    loop.start()
    long = [_submit(loop, seed, LONG_STEPS) for seed in range(LONG_REQUESTS)]
    half_done.result(300)
    began = time.perf_counter()
    _submit(loop, 100, SHORT_STEPS).result(300)
    seconds = time.perf_counter() - began
    for future in long:
        future.result(300)
    loop.stop()
    return seconds


def _wait_behind_a_whole_batch(painter: ModelPainter) -> float:
    """The same arrival, where the batch that runs must end first."""
    states = [painter.begin(_sample(seed, LONG_STEPS)) for seed in range(LONG_REQUESTS)]
    for _ in range(LONG_STEPS // 2):
        painter.step(states)
    began = time.perf_counter()
    for _ in range(LONG_STEPS - LONG_STEPS // 2):
        painter.step(states)
    short = painter.begin(_sample(100, SHORT_STEPS))
    for _ in range(SHORT_STEPS):
        painter.step([short])
    return time.perf_counter() - began
