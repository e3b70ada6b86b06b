"""From a ModelSpec to a network: diffusers' UNet2DModel by its own keys, or our DiT.

The keys of `config` are checked against the class before anything is built: names and types by its signature, the
values by building and running it once on torch's meta device, which costs no memory and no arithmetic.
"""

import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import torch
from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from torch import Tensor, nn

from diffusion_contract.run_config import ModelSpec

if TYPE_CHECKING:
    from diffusers import UNet2DModel

CONFIG_PATH = "spec.model.denoiser.config"

NULL_LABEL = -1
"""The label of "no class": every denoiser maps it to an extra embedding of its own."""

NOT_ACCEPTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a network class raises for values that it cannot be built with or run with."""


class ConfigRefused(ValueError):
    """A denoiser cannot be built as the spec asks. `path` is the field at fault, `why` says what to change."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class Denoiser(nn.Module, ABC):
    """A network that sees a noisy sample and its time, and predicts what `DiffusionSpec.prediction` names.

    `network` is the class that the spec names and `config` all of its keys, so both can be stored for other tools.
    """

    network: nn.Module
    config: dict[str, JsonValue]

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.classes = model.conditioning.classes

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from x [B,C,H,W], t [B] in 0..T and labels [B] int64 in -1..classes-1; returns [B,C,H,W].

        NULL_LABEL (-1), or None for all rows, means no class. Raises ValueError for labels without conditioning.
        """
        if self.classes is None:
            if labels is not None:
                raise ValueError("labels were given to a model without conditioning")
            return self.predict(x, t, None)
        if labels is None:
            labels = torch.full((len(x),), NULL_LABEL, device=x.device)
        return self.predict(x, t, torch.where(labels == NULL_LABEL, self.classes, labels))

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """As forward, with labels in 0..classes (the last is the null class), or None without conditioning."""


class UNetDenoiser(Denoiser):
    """diffusers' UNet2DModel: its state dict under `network.` is the one that the library itself loads."""

    network: "UNet2DModel"

    def __init__(self, model: ModelSpec) -> None:
        from diffusers import UNet2DModel  # takes seconds

        super().__init__(model)
        denoiser = model.denoiser
        self.config = {
            **_unet_defaults(denoiser.sample_size, denoiser.config),
            **denoiser.config,
            "sample_size": denoiser.sample_size,
            "in_channels": denoiser.channels,
            "out_channels": denoiser.channels,
            "num_class_embeds": None if self.classes is None else self.classes + 1,
        }
        self.network = UNet2DModel(**self.config)

    def predict(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """See Denoiser."""
        out: Tensor = self.network(x, t, labels, return_dict=False)[0]
        return out


class DiTDenoiser(Denoiser):
    """Our DiT: see dit.py."""

    def __init__(self, model: ModelSpec) -> None:
        from diffusion_core.dit import DiT, DiTConfig

        super().__init__(model)
        denoiser = model.denoiser
        settings = DiTConfig.model_validate(denoiser.config)
        self.config = settings.model_dump(mode="json")
        self.network = DiT(settings, denoiser.sample_size, denoiser.channels, self.classes)

    def predict(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """See Denoiser."""
        out: Tensor = self.network(x, t, labels)
        return out


def build_denoiser(model: ModelSpec) -> Denoiser:
    """The denoiser of a spec, with fresh weights from torch's global generator. Raises ConfigRefused."""
    check_denoiser(model)
    return assemble_denoiser(model)


def assemble_denoiser(model: ModelSpec) -> Denoiser:
    """As `build_denoiser`, for a spec that has been checked: raises whatever the class raises."""
    return UNetDenoiser(model) if model.denoiser.type == "UNet2DModel" else DiTDenoiser(model)


def check_denoiser(model: ModelSpec) -> None:
    """Raise ConfigRefused, naming the key at fault, unless the spec's network can be built and run."""
    if model.denoiser.type == "UNet2DModel":
        _check_unet_keys(model.denoiser.config)
    else:
        _check_dit_keys(model.denoiser.config)
    if (why := _trial(model)) is not None:
        raise ConfigRefused(_key_at_fault(model), f"{model.denoiser.type} does not accept it: {why}")


# --- the library's keys ------------------------------------------------------------------------------------------

_SET_ELSEWHERE = {
    "sample_size": "set spec.model.denoiser.sampleSize instead",
    "in_channels": "set spec.model.denoiser.channels instead",
    "out_channels": "set spec.model.denoiser.channels instead",
    "num_class_embeds": "set spec.model.conditioning.classes instead",
    "class_embed_type": "set spec.model.conditioning instead: classes are embedded by number",
    "num_train_timesteps": "set spec.diffusion.schedule.timesteps instead",
}

_Count = Annotated[int, Field(ge=1, le=8192)]
_NARROWER: dict[str, Any] = {
    "block_out_channels": Annotated[tuple[_Count, ...], Field(min_length=1, max_length=8)],
    "layers_per_block": Annotated[int, Field(ge=1, le=64)],
    "attention_head_dim": _Count | None,
    "norm_num_groups": _Count,
    "attn_norm_num_groups": _Count | None,
    "norm_eps": Annotated[float, Field(gt=0, le=1)],
    "dropout": Annotated[float, Field(ge=0, lt=1)],
    "mid_block_type": Literal["UNetMidBlock2D"] | None,
    "mid_block_scale_factor": Annotated[float, Field(gt=0, le=1000)],
    "downsample_padding": Annotated[int, Field(ge=0, le=16)],
    "downsample_type": Literal["conv", "resnet"],
    "upsample_type": Literal["conv", "resnet"],
    "time_embedding_type": Literal["positional"],
    "time_embedding_dim": Annotated[int, Field(ge=2, le=65536)] | None,
    "freq_shift": Literal[0, 1],
}
"""Types closer than the signature's, for values that the class takes without a word and turns into NaN, or into a
network that is not the one that was asked for."""


def _check_unet_keys(config: Mapping[str, JsonValue]) -> None:
    from diffusers import UNet2DModel  # takes seconds

    accepted: dict[str, Any] = get_type_hints(UNet2DModel.__init__)
    for key, value in config.items():
        path = f"{CONFIG_PATH}.{key}"
        if key in _SET_ELSEWHERE:
            raise ConfigRefused(path, _SET_ELSEWHERE[key])
        if key not in accepted:
            offered = ", ".join(sorted(accepted.keys() - _SET_ELSEWHERE.keys() - {"return"}))
            raise ConfigRefused(path, f"UNet2DModel has no such key; it has {offered}")
        try:
            TypeAdapter(_NARROWER.get(key, accepted[key])).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise ConfigRefused(path, f"{error.errors()[0]['msg']}, got {json.dumps(value)}") from error


def _check_dit_keys(config: Mapping[str, JsonValue]) -> None:
    from diffusion_core.dit import DiTConfig

    try:
        DiTConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([CONFIG_PATH, *map(str, first["loc"])])
        offered = ", ".join(DiTConfig.model_fields)
        why = f"DiT has no such key; it has {offered}" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigRefused(path, why) from error


def _unet_defaults(sample_size: int, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Keys where the user gave none, for small pictures: 32, then 64 channels, halving down to a side of 4 or odd.

    8x8 gives (32, 64), 0.7 M parameters; 16x16 gives (32, 64, 64), 1.1 M. The lowest level has attention.
    """
    halvings = 0
    while sample_size % 2 ** (halvings + 1) == 0 and sample_size >> (halvings + 1) >= 4 and halvings < 5:
        halvings += 1
    widths = given.get("block_out_channels", [32, *(64,) * halvings])
    levels = len(widths) if isinstance(widths, list) else 1
    return {
        "block_out_channels": widths,
        "down_block_types": [*("DownBlock2D",) * (levels - 1), "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", *("UpBlock2D",) * (levels - 1)],
        "layers_per_block": 1,
        "norm_num_groups": _common_groups(widths),
    }


def _common_groups(widths: JsonValue) -> int:
    """The library's 32 groups, or as many as divide every width."""
    return math.gcd(32, *(width for width in widths if isinstance(width, int))) if isinstance(widths, list) else 32


# --- the trial ---------------------------------------------------------------------------------------------------


def _trial(model: ModelSpec) -> str | None:
    """Build the network and run samples through it on the meta device: None, or why that failed.

    Two at once, and one alone: a norm of a single number (one sample, 1x1, one channel a group) refuses only that.
    """
    denoiser = model.denoiser
    sample = (denoiser.channels, denoiser.sample_size, denoiser.sample_size)
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore", category=UserWarning):
            network = assemble_denoiser(model)
            for rows in (2, 1):
                labels = None if network.classes is None else torch.zeros(rows, dtype=torch.long)
                out = network(torch.zeros(rows, *sample), torch.zeros(rows), labels)
    except NOT_ACCEPTED as error:
        return " ".join(str(error).split()) or type(error).__name__
    if empty := [name for name, weights in network.named_parameters() if weights.numel() == 0]:
        return f"{empty[0]} would have no weights"
    return None if out.shape[1:] == sample else f"it turns samples of {list(sample)} into {list(out.shape[1:])}"


def _key_at_fault(model: ModelSpec) -> str:
    """The one key without which the network would work; the whole config, or the size, when there is no such key."""
    config = model.denoiser.config
    for key in config:
        rest = {name: value for name, value in config.items() if name != key}
        if _trial(model.model_copy(update={"denoiser": model.denoiser.model_copy(update={"config": rest})})) is None:
            return f"{CONFIG_PATH}.{key}"
    return CONFIG_PATH if config else "spec.model.denoiser.sampleSize"
