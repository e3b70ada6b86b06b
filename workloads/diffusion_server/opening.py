"""From a reference to a warm model: verified before a single file is parsed, loaded, and timed.

torch is imported only after the model version has been verified, so that a pod with a wrong or damaged model says so
within a second.
"""

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.model_reference import ModelReference, parse_model_reference
from diffusion_contract.serving_config import EngineConfig, Sampler
from diffusion_registry.verification import ModelVersionRefused, open_model_version
from diffusion_router.door.configuration import UnusableConfiguration, read_configuration
from diffusion_server.engine import Opened
from diffusion_server.measures import EngineMeasures
from diffusion_server.picture import can_be_shown
from diffusion_server.samples import Sample, ServedModel
from diffusion_server.step_loop import StepLoop
from diffusion_server.step_times import StepTimes, measure_step_times

if TYPE_CHECKING:
    from diffusion_core.model_folder import LoadedModel
    from diffusion_server.painter import ModelPainter

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False)
class OpeningRefusedError(Exception):
    """The engine cannot serve: `reason` is a CamelCase word for status, `path` the field of the spec at fault.

    `exit_code` is another one where the fault is the node's, so that a later try may succeed.
    """

    reason: str
    message: str
    path: str | None = None
    exit_code: int = ExitCode.CONFIGURATION_REFUSED


def read_engine_config(file: Path) -> EngineConfig:
    """The engine's configuration; raises OpeningRefusedError where it is missing or not valid."""
    try:
        return read_configuration(EngineConfig, file)
    except UnusableConfiguration as problem:
        raise OpeningRefusedError("ConfigRefused", str(problem)) from problem


def open_engine(config: EngineConfig, models_directory: Path, scratch: Path, measures: EngineMeasures) -> Opened:
    """Verify, load and warm up the model version of `config`; raises OpeningRefusedError. Takes seconds to minutes."""
    reference = checked_reference(config.model)
    loaded = load_verified(reference, models_directory, scratch)
    served = served_model(loaded, reference)
    _check_sampling(config, loaded)
    painter, times = _warm_painter(loaded, config, served)
    loop = StepLoop(painter, config.max_batch, measures.observe_step)
    loop.start()
    return Opened(served, loop, times)


def checked_reference(text: str) -> ModelReference:
    """Parse a reference; raises OpeningRefusedError that says what is wrong with it."""
    try:
        return parse_model_reference(text)
    except ValueError as problem:
        raise OpeningRefusedError("ModelReferenceInvalid", str(problem), "spec.model.ref") from problem


def load_verified(reference: ModelReference, models_directory: Path, scratch: Path) -> "LoadedModel":
    """Copy a model version to `scratch` while its digests are verified, then load it; raises OpeningRefusedError."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        verified = _verified(models_directory, reference, Path(folder) / "model")
        _LOGGER.info("verified %s", reference)
        return _loaded(verified)


def _verified(models_directory: Path, reference: ModelReference, target: Path) -> Path:
    try:
        return open_model_version(models_directory, reference, target)
    except ModelVersionRefused as refused:
        raise OpeningRefusedError(f"Model{refused.reason}", refused.message, "spec.model") from refused
    except OSError as problem:
        raise OpeningRefusedError("ModelUnreadable", f"{reference}: {problem}", "spec.model") from problem


def _loaded(folder: Path) -> "LoadedModel":
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Threads that wait for one another sleep. They would spin: on cores that others use as well, measured with two
    # threads on two busy cores, a step took ten times as long (70 to 290 ms where it is 5 to 26 ms now).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from diffusion_core.model_folder import ModelFolderRefused, load_model_folder

    try:
        return load_model_folder(folder)
    except ModelFolderRefused as refused:
        raise OpeningRefusedError("ModelMalformed", str(refused), "spec.model") from refused


def served_model(loaded: "LoadedModel", reference: ModelReference) -> ServedModel:
    """What the HTTP face must know of a loaded model; raises OpeningRefusedError for one without a PNG form."""
    denoiser = loaded.model.denoiser
    if not can_be_shown(denoiser.channels):
        message = f"the model makes images of {denoiser.channels} channels, which have no PNG form (1, 3 and 4 have)"
        raise OpeningRefusedError("ModelNotServable", message, "spec.model")
    return ServedModel(
        digest=reference.digest,
        width=denoiser.sample_size,
        height=denoiser.sample_size,
        classes=loaded.model.conditioning.classes,
        timesteps=loaded.diffusion.schedule.timesteps,
    )


def _check_sampling(config: EngineConfig, loaded: "LoadedModel") -> None:
    """Whatever a request cannot mend is refused here, not at the first request."""
    from diffusion_core.samplers import SamplerRefused, sampler_table

    for service_class in config.sampling.classes:
        try:
            sampler_table(config.sampling.sampler, service_class.steps, loaded.diffusion)
        except SamplerRefused as refused:
            raise OpeningRefusedError("SamplingRefused", str(refused), "spec.sampling") from refused
    if loaded.model.conditioning.classes is None and config.sampling.guidance_scale != 1.0:
        message = "the model knows no classes, so guidanceScale must be 1 (the default)"
        raise OpeningRefusedError("SamplingRefused", message, "spec.sampling.guidanceScale")


def painter_of(loaded: "LoadedModel", sampler: Sampler) -> "ModelPainter":
    """What draws from a loaded model, on a GPU where there is one; raises OpeningRefusedError for one of no use."""
    import torch

    from diffusion_core.accelerator import AcceleratorUnusable, given_devices, name_device, start_cuda
    from diffusion_server.painter import ModelPainter

    try:
        device = torch.device("cuda" if start_cuda(given_devices(os.environ)) else "cpu")
    except AcceleratorUnusable as problem:
        raise OpeningRefusedError("AcceleratorUnusable", str(problem), exit_code=1) from problem
    # TF32, which torch takes for convolutions else, rounds so that the rows of a batch show in one another: on an H100
    # by 1e-3 of a latent, where fp32 gives 2e-6.
    torch.backends.cudnn.allow_tf32 = False
    _LOGGER.info("sampling on %s with %d threads", name_device(device), torch.get_num_threads())
    return ModelPainter(loaded, sampler, device)


def _warm_painter(loaded: "LoadedModel", config: EngineConfig, served: ServedModel) -> "tuple[ModelPainter, StepTimes]":
    import torch

    try:
        painter = painter_of(loaded, config.sampling.sampler)
        return painter, warm_up(painter, config, served)
    except torch.OutOfMemoryError as problem:
        message = f"the GPU's memory does not hold the model and a batch of {config.max_batch} images: {problem}"
        raise OpeningRefusedError("BatchTooLarge", message, "spec.batching.maxBatch") from problem


def warm_up(painter: "ModelPainter", config: EngineConfig, model: ServedModel) -> StepTimes:
    """Time the last step of batches in which every row is drawn as the service's default says.

    The last one, because nearly all steps are like it: the first ones of a strongly guided row share no batch.
    """
    sampling, label = config.sampling, None if model.classes is None else 0
    steps = sampling.classes[0].steps

    def run_step(rows: int) -> None:
        samples = [Sample(seed, label, steps, sampling.guidance_scale, sampling.sampler) for seed in range(rows)]
        states = [painter.begin(sample) for sample in samples]
        for state in states:
            state.position = steps - 1
        painter.step(states)
        painter.finish(states[-1])  # waits for an accelerator that works behind our back

    times = measure_step_times(run_step, config.max_batch, time.perf_counter)
    curve = ", ".join(f"{rows}: {seconds * 1000:.1f} ms" for rows, seconds in times.points)
    _LOGGER.info("warm; one step by rows: %s", curve)
    return times
