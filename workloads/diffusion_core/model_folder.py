"""A model as a folder in diffusers' layout: safetensors and JSON, no code and no pickle.

    model_index.json                                  which classes the parts are of (allow-listed when read)
    diffusion.json                                    model and diffusion as in the spec, and the noise schedule's hash
    normalization.json                                the value range of the pixels
    unet/ or transformer/config.json                  every key of the network
    .../diffusion_pytorch_model.safetensors           its weights, fp32
    scheduler/scheduler_config.json                   a scheduler of diffusers that draws the same images

`UNet2DModel.from_pretrained(folder, subfolder="unet")` and the scheduler's `from_pretrained` read their parts, and
an unconditional epsilon model is a whole `DDIMPipeline`. The same input gives the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors
import torch
from pydantic import BaseModel, JsonValue, ValidationError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import DiffusionSpec, ModelSpec, Sha256
from diffusion_core.denoisers import NOT_ACCEPTED, ConfigRefused, Denoiser, build_denoiser
from diffusion_core.normalization import Normalization
from diffusion_core.schedules import noise_schedule_hash

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
DIFFUSERS_VERSION = "0.42.1"
"""The version whose layout this is; written as diffusers itself would."""

NETWORK_FOLDERS = {"UNet2DModel": "unet", "DiT": "transformer"}
LIBRARIES = {"UNet2DModel": "diffusers", "DiT": "diffusion_core"}
SCHEDULERS = {"Epsilon": "DDIMScheduler", "Flow": "FlowMatchEulerDiscreteScheduler"}

_PREFIX = "network."
_Document = TypeVar("_Document", bound=BaseModel)


class ModelFolderRefused(ValueError):
    """A model folder cannot be loaded. `file` is relative to it; `why` says what is wrong and what to do."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.file = file
        self.why = why


class DiffusionDocument(FrozenModel):
    """diffusion.json: what the weights are weights of."""

    model: ModelSpec
    diffusion: DiffusionSpec
    noise_schedule_hash: Sha256


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to draw: the denoiser on the CPU, in evaluation mode, without gradients."""

    denoiser: Denoiser
    model: ModelSpec
    diffusion: DiffusionSpec
    normalization: Normalization


def save_model_folder(
    folder: Path,
    weights: Mapping[str, Tensor],
    model: ModelSpec,
    diffusion: DiffusionSpec,
    normalization: Normalization,
) -> None:
    """Write the folder (made when missing). `weights` is a Denoiser's state dict, of the EMA as a rule.

    Raises ConfigRefused for a spec that has no network, and ValueError for weights that are not that network's.
    """
    with torch.device("meta"):
        network = build_denoiser(model)
    if len(normalization.minimum) != model.denoiser.channels:
        raise ValueError(
            f"normalization has {len(normalization.minimum)} channels, the model {model.denoiser.channels}"
        )
    if problem := mismatch(network.state_dict(), weights):
        raise ValueError(f"the weights do not fit the spec's {model.denoiser.type}: {problem}")
    part = folder / NETWORK_FOLDERS[model.denoiser.type]
    document = DiffusionDocument(model=model, diffusion=diffusion, noise_schedule_hash=noise_schedule_hash(diffusion))
    _write_json(folder / "model_index.json", _model_index(model, diffusion))
    _write_json(folder / "diffusion.json", document.to_wire())
    _write_json(folder / "normalization.json", normalization.to_wire())
    _write_json(folder / "scheduler" / "scheduler_config.json", _scheduler_config(diffusion))
    _write_json(part / "config.json", _class_mark(model.denoiser.type) | network.config)
    plain = {
        name.removeprefix(_PREFIX): tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in weights.items()
    }
    (part / WEIGHTS_FILE).write_bytes(save_tensors(plain, metadata={"format": "pt"}))


def load_model_folder(folder: Path) -> LoadedModel:
    """Read a folder that `save_model_folder` wrote. Raises ModelFolderRefused naming the file at fault.

    The bytes are taken as they are: verify them first (diffusion_registry), when they come from elsewhere.
    """
    document = _read_document(folder, "diffusion.json", DiffusionDocument)
    normalization = _read_document(folder, "normalization.json", Normalization)
    model, diffusion = document.model, document.diffusion
    if document.noise_schedule_hash != noise_schedule_hash(diffusion):
        raise ModelFolderRefused("diffusion.json", "noiseScheduleHash is not that of its schedule: publish it again")
    _require_allowed_classes(folder, model, diffusion)
    if len(normalization.minimum) != model.denoiser.channels:
        raise ModelFolderRefused(
            "normalization.json", f"must have {model.denoiser.channels} channels, as the model has"
        )
    try:
        denoiser = build_denoiser(model)
    except ConfigRefused as refused:
        raise ModelFolderRefused("diffusion.json", f"{refused}: this version of diffusers cannot build it") from refused
    _load_weights(folder, f"{NETWORK_FOLDERS[model.denoiser.type]}/{WEIGHTS_FILE}", denoiser)
    return LoadedModel(denoiser.eval().requires_grad_(False), model, diffusion, normalization)


# --- documents ---------------------------------------------------------------------------------------------------


def _class_mark(name: str) -> dict[str, JsonValue]:
    """How diffusers marks whose configuration a file is."""
    return {"_class_name": name, "_diffusers_version": DIFFUSERS_VERSION}


def _model_index(model: ModelSpec, diffusion: DiffusionSpec) -> dict[str, JsonValue]:
    """The parts and their classes. A pipeline of diffusers is named only where one draws what our engine draws."""
    network = model.denoiser.type
    plain = network == "UNet2DModel" and model.conditioning.classes is None and diffusion.prediction == "Epsilon"
    return {
        **_class_mark("DDIMPipeline" if plain else "DiffusionModelVersion"),
        "scheduler": ["diffusers", SCHEDULERS[diffusion.prediction]],
        NETWORK_FOLDERS[network]: [LIBRARIES[network], network],
    }


def _scheduler_config(diffusion: DiffusionSpec) -> dict[str, JsonValue]:
    """The scheduler of diffusers that agrees with our sampler tables (the tests hold the two together).

    On a cosine schedule ours begins 3 of 1,000 times earlier (samplers.SMALLEST_SIGNAL): images are alike, not equal.
    """
    schedule = diffusion.schedule
    mark = _class_mark(SCHEDULERS[diffusion.prediction]) | {"num_train_timesteps": schedule.timesteps}
    if diffusion.prediction == "Flow":
        return mark | {"shift": schedule.shift}
    return mark | {
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": {"Linear": "linear", "Cosine": "squaredcos_cap_v2"}[schedule.type],
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "prediction_type": "epsilon",
        "set_alpha_to_one": True,
        "timestep_spacing": "trailing",
    }


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _read_bytes(folder: Path, file: str) -> bytes:
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise ModelFolderRefused(file, f"cannot be read ({error.strerror}): publish the model again") from error


def _read_document(folder: Path, file: str, kind: type[_Document]) -> _Document:
    try:
        return kind.model_validate_json(_read_bytes(folder, file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ModelFolderRefused(file, f"{where}: {first['msg']}; publish the model again") from error


def _require_allowed_classes(folder: Path, model: ModelSpec, diffusion: DiffusionSpec) -> None:
    """model_index.json may name the classes that diffusion.json implies, and nothing else: no class is looked up."""
    file = "model_index.json"
    try:
        found = json.loads(_read_bytes(folder, file))
    except ValueError as error:
        raise ModelFolderRefused(file, f"is not JSON ({error}); publish the model again") from error
    expected = _model_index(model, diffusion)
    if not isinstance(found, dict) or found | {"_diffusers_version": DIFFUSERS_VERSION} != expected:
        raise ModelFolderRefused(file, f"names other parts than {json.dumps(expected, sort_keys=True)}: not allowed")


# --- weights -----------------------------------------------------------------------------------------------------


def _load_weights(folder: Path, file: str, denoiser: Denoiser) -> None:
    try:
        stored = load_tensors(_read_bytes(folder, file))
    except safetensors.SafetensorError as error:
        raise ModelFolderRefused(file, f"is not a whole safetensors file ({error}); publish it again") from error
    weights = {_PREFIX + name: tensor for name, tensor in stored.items()}
    if problem := mismatch(denoiser.state_dict(), weights):
        raise ModelFolderRefused(file, f"does not hold the weights of the network in diffusion.json: {problem}")
    try:
        denoiser.load_state_dict(weights)
    except NOT_ACCEPTED as error:
        raise ModelFolderRefused(file, f"cannot be loaded: {error}") from error


def mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first difference between two sets of weights in words, or None."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not a weight of it"
        if expected[name].shape != found[name].shape:
            return f"{name} has shape {list(found[name].shape)} instead of {list(expected[name].shape)}"
    return None
