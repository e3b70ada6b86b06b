"""Draw a picture from a published model version with diffusers alone: that which the service draws for the seed.

    python examples/draw_with_diffusers.py LAYOUT sha256:DIGEST seven.png --label 7 --seed 1 --guidance 2.0

LAYOUT is the folder of the version in its volume, an OCI image layout: CLAIM/NAME of pvc://CLAIM/NAME@sha256:DIGEST.
Needs diffusers, torch, numpy and Pillow, and nothing of this project. For models with a UNet2DModel; with a cosine
schedule the picture is another one, since the service begins where a trace of signal is left.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image


def blob(layout: Path, digest: str) -> bytes:
    """The content of that digest; every byte is verified before anything reads it."""
    algorithm, _, name = digest.partition(":")
    content = (layout / "blobs" / algorithm / name).read_bytes()
    if hashlib.new(algorithm, content).hexdigest() != name:
        raise SystemExit(f"error: {digest} is damaged: fetch the model version again")
    return content


def unpack(layout: Path, digest: str, folder: Path) -> None:
    """Write the files of the model version `digest` where its manifest says that they belong."""
    for layer in json.loads(blob(layout, digest))["layers"]:
        file = folder / layer["annotations"]["org.opencontainers.image.title"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(blob(layout, layer["digest"]))


@torch.no_grad()
def draw(folder: Path, label: int | None, seed: int, steps: int, guidance: float) -> torch.Tensor:
    """One picture [C,H,W] between -1 and 1."""
    parts = json.loads((folder / "model_index.json").read_text())
    unet = getattr(diffusers, parts["unet"][1]).from_pretrained(folder / "unet")
    scheduler = getattr(diffusers, parts["scheduler"][1]).from_pretrained(folder / "scheduler")
    if parts["scheduler"][1] == "FlowMatchEulerDiscreteScheduler":
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        more = {}
    else:
        scheduler.set_timesteps(steps)
        more = {"use_clipped_model_output": True}
    noise = np.random.Generator(np.random.Philox(key=seed, counter=2 << 64))  # 2: the stream of sampling
    shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    x = torch.from_numpy(noise.standard_normal(shape, dtype=np.float32))
    for t in scheduler.timesteps:
        out = _predict(unet, x, t, label)
        if label is not None and guidance != 1:
            nothing = _predict(unet, x, t, unet.config.num_class_embeds - 1)  # the last class stands for none
            out = nothing + guidance * (out - nothing)
        x = scheduler.step(out, t, x, **more).prev_sample
    return x[0]


def _predict(unet: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, label: int | None) -> torch.Tensor:
    """What the network says of `x` at the time `t`."""
    said: torch.Tensor = unet(x, t.expand(1), class_labels=None if label is None else torch.tensor([label])).sample
    return said


def main() -> None:
    """Read the arguments, unpack, draw, write the PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", type=Path)
    parser.add_argument("digest")
    parser.add_argument("output", type=Path)
    parser.add_argument("--label", type=int, help="class to draw; leave it out for a model without classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unpack(chosen.layout, chosen.digest, Path(folder))
        picture = draw(Path(folder), chosen.label, chosen.seed, chosen.steps, chosen.guidance)
    pixels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(chosen.output)


if __name__ == "__main__":
    main()
