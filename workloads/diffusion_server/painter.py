"""Rows as tensors: each image's latent and its place in its own sampler table, stepped together in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_contract.serving_config import Sampler
from diffusion_core.model_folder import LoadedModel
from diffusion_core.samplers import (
    CALM_GAIN,
    SamplerTable,
    advance_rows,
    denoise_with_guidance,
    gains,
    initial_noise,
    sampler_table,
)
from diffusion_server.samples import Sample


@dataclass(eq=False)
class RowState:
    """One image on its way from noise to picture."""

    latent: Tensor
    """[C,H,W] fp32, on the model's device."""
    table: SamplerTable
    label: int
    guidance_scale: float
    calm: Sequence[bool]
    """Of each step of the table: whether it may be taken together with other rows."""
    position: int = 0
    """How many steps of the table have been taken."""


class ModelPainter:
    """Draws from one loaded model. All methods belong to one thread."""

    def __init__(self, loaded: LoadedModel, sampler: Sampler, device: torch.device) -> None:
        self._denoiser = loaded.denoiser.to(device)
        self._loaded = loaded
        self._sampler: Sampler = sampler
        self._device = device
        self._tables: dict[int, SamplerTable] = {}

    def begin(self, sample: Sample) -> RowState:
        """Pure noise from the sample's own seed: it depends on nothing else, least of all on the other rows."""
        latent = initial_noise(sample.seed, self._loaded.model).to(self._device)
        table, scale = self._table(sample.steps), sample.guidance_scale
        calm = (gains(table.coefficients, torch.tensor(scale)) <= CALM_GAIN).tolist()
        return RowState(latent, table, sample.label or 0, scale, calm)

    @torch.inference_mode()
    def step(self, states: Sequence[RowState]) -> None:
        """Take one step of each row's own table: in one pass through the network, as far as rows may share it.

        A step that would make a visible difference of the network's rounding is taken by its row alone, so that it is
        the same step in any crowd. That is the first one or two of a row whose guidance is strong.
        """
        together = [row for row in states if row.calm[row.position]]
        for row in states:
            if not row.calm[row.position]:
                self._pass([row])
        if together:
            self._pass(together)

    def _pass(self, states: Sequence[RowState]) -> None:
        x = torch.stack([row.latent for row in states])  # [B,C,H,W]
        t = torch.stack([row.table.timesteps[row.position] for row in states]).to(self._device)  # [B]
        coefficients = torch.stack([row.table.coefficients[row.position] for row in states]).to(self._device)  # [B,6]
        scale = torch.tensor([row.guidance_scale for row in states], device=self._device)  # [B]
        out = denoise_with_guidance(self._denoiser, x, t, self._labels(states), scale)  # [B,C,H,W]
        after, _ = advance_rows(x, out, None, coefficients, None, states[0].table.clip)
        for row, latent in zip(states, after.unbind(), strict=True):
            row.latent = latent
            row.position += 1

    @torch.inference_mode()
    def finish(self, state: RowState) -> bytes:
        """The picture as bytes [H,W,C], 0..255. Raises RuntimeError where the numbers have run away."""
        if not bool(torch.isfinite(state.latent).all()):
            raise RuntimeError("the model produced values that are not finite")
        pixels = self._loaded.normalization.to_uint8(state.latent[None])[0]  # [C,H,W]
        return pixels.permute(1, 2, 0).contiguous().cpu().numpy().tobytes()

    def _table(self, steps: int) -> SamplerTable:
        if steps not in self._tables:
            self._tables[steps] = sampler_table(self._sampler, steps, self._loaded.diffusion)
        return self._tables[steps]

    def _labels(self, states: Sequence[RowState]) -> Tensor | None:
        if self._loaded.model.conditioning.type == "None":
            return None
        return torch.tensor([row.label for row in states], device=self._device)
