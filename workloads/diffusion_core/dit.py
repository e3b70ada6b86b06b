"""A diffusion transformer (Peebles and Xie, arXiv 2212.09748) with adaLN-Zero blocks, for pixels of any even size.

Our own, since diffusers' DiTTransformer2DModel gives every block its own label embedder, each of which drops labels
by itself: the null class that guidance needs is never learned as one thing. Here time and label are embedded once.

Shapes: B batch, C channels, H = W sample size, P patch size, N = (H / P)^2 tokens, D hidden size.
"""

import math
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from diffusion_contract.frozen_model import FrozenModel

TIME_FREQUENCIES = 256
"""Numbers in the sinusoidal embedding of a time, half of them sines."""


class DiTConfig(FrozenModel):
    """The keys of `spec.model.denoiser.config` for a DiT. The defaults give 1.3 M parameters, for 8x8 pictures."""

    model_config = ConfigDict(alias_generator=None, strict=True)

    patch_size: Annotated[int, Field(ge=1, le=64)] = 2
    """Side of a token in pixels; the sample size must be a multiple."""
    hidden_size: Annotated[int, Field(ge=4, le=8192)] = 128
    """Width D; a multiple of 4 (for the position embedding) and of num_heads."""
    depth: Annotated[int, Field(ge=1, le=128)] = 4
    """Number of blocks."""
    num_heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Attention heads of each block."""
    mlp_ratio: Annotated[float, Field(ge=0.25, le=16)] = 4.0
    """Width of a block's hidden layer, in units of D."""


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm's affine part, the same for all tokens of a sample. x [B,N,D]; shift, scale [B,D]."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def time_embedding(t: Tensor) -> Tensor:
    """Sines and cosines of a time in 0..T at geometric frequencies (DDPM, as in Transformers). [B] -> [B,256]."""
    half = TIME_FREQUENCIES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # [128]
    angles = t.float().unsqueeze(1) * frequencies  # [B,128]
    return torch.cat([angles.cos(), angles.sin()], 1)  # [B,256]


def position_embedding(side: int, width: int) -> Tensor:
    """Fixed two-dimensional sines and cosines: half of the width for the row, half for the column. [side^2, width]."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))  # [D/4]
    angles = torch.arange(side).float().unsqueeze(1) * frequencies  # [side,D/4]
    one_axis = torch.cat([angles.sin(), angles.cos()], 1)  # [side,D/2]
    rows = one_axis.unsqueeze(1).expand(side, side, -1)  # [side,side,D/2]
    return torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)  # [N,D]


class Block(nn.Module):
    """A transformer block whose norms and gates are set by the condition (adaLN-Zero; figure 3 of the paper)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        inner = int(width * config.mlp_ratio)
        self.heads = config.num_heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens x [B,N,D] under a condition [B,D] that has been through SiLU -> [B,N,D]."""
        parts: Tensor = self.modulation(condition)  # [B,6D]
        shift1, scale1, gate1, shift2, scale2, gate2 = parts.chunk(6, 1)  # [B,D] each
        x = x + gate1.unsqueeze(1) * self._attend(modulate(self.norm1(x), shift1, scale1))
        fed_forward: Tensor = self.mlp(modulate(self.norm2(x), shift2, scale2))  # [B,N,D]
        return x + gate2.unsqueeze(1) * fed_forward

    def _attend(self, x: Tensor) -> Tensor:
        parts: Tensor = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1)  # [B,N,3,heads,D/heads]
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # [B,heads,N,D/heads] each
        mixed = functional.scaled_dot_product_attention(query, key, value)  # [B,heads,N,D/heads]
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # [B,N,D]
        return out


class DiT(nn.Module):
    """Patches, `depth` blocks that see time and label, and a last linear layer back to pixels."""

    def __init__(self, config: DiTConfig, sample_size: int, channels: int, classes: int | None) -> None:
        super().__init__()
        if sample_size % config.patch_size:
            raise ValueError(f"sampleSize {sample_size} is not a multiple of patch_size {config.patch_size}")
        width, patch = config.hidden_size, config.patch_size
        if width % 4 or width % config.num_heads:
            raise ValueError(f"hidden_size {width} is not a multiple of 4 and of num_heads {config.num_heads}")
        self.side = sample_size // patch
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.register_buffer("positions", position_embedding(self.side, width), persistent=False)  # [N,D]
        self.time = nn.Sequential(nn.Linear(TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if classes is None else nn.Embedding(classes + 1, width)  # the last is the null class
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.pixels = nn.Linear(width, patch * patch * channels)
        self.patch, self.channels = patch, channels
        self._initialise()

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Predict from x [B,C,H,W], t [B] in 0..T and labels [B] in 0..classes or None; returns [B,C,H,W]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # [B,N,D]
        condition = self.time(time_embedding(t).to(tokens))  # [B,D]
        if self.label is not None and labels is not None:
            condition = condition + self.label(labels)
        condition = functional.silu(condition)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(condition).chunk(2, 1)  # [B,D] each
        return self._unpatch(self.pixels(modulate(self.norm(tokens), shift, scale)))

    def _unpatch(self, tokens: Tensor) -> Tensor:
        """[B,N,P*P*C] -> [B,C,H,W]."""
        grid = tokens.reshape(-1, self.side, self.side, self.patch, self.patch, self.channels)  # [B,h,w,P,P,C]
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def _initialise(self) -> None:
        """As in the paper's section 3.2: every block starts as the identity, the output as zero."""
        for layer in _linear_layers(self):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.patches.weight.view(self.patches.weight.shape[0], -1))  # a linear layer in effect
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type] # a Conv2d has one unless told otherwise
        for layer in _linear_layers(self.time):
            nn.init.normal_(layer.weight, std=0.02)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        gates = [block.modulation for block in self.blocks if isinstance(block, Block)]
        for layer in [*gates, self.modulation, self.pixels]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def _linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]
