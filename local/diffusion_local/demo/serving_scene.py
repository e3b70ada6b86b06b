"""The second half of the story: the service draws digits through its router, and a judge says which it recognises."""

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffusion_local.demo.cluster_commands import CommandFailed

Picture = NDArray[np.uint8]
TOO_MANY = 429
AT_ONCE = 16
"""Requests that are out together, so that the engine can batch their steps."""
PATIENCE_SECONDS = 30.0
SCALE, GAP, GREY = 8, 4, 96
"""Of the sheet: pixels for each pixel of a picture, pixels between two, and their shade."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Our router listens on this machine: a proxy of the user's could not reach it."""


@dataclass(frozen=True)
class ImagesClient:
    """Asks a DiffusionService for images, as any OpenAI client would."""

    url: str
    api_key: str

    def generate(self, label: int, seed: int) -> Picture:
        """Return one grey image [H, W] of the class `label`; raises CommandFailed with the service's error code.

        "Too many at once" (429) is obeyed for half a minute; a service that is Ready answers, so nothing else is.
        """
        body = json.dumps({"label": label, "seed": seed, "n": 1}).encode()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                document = self._post(body)
                break
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")
                if error.code != TOO_MANY or time.monotonic() > deadline:
                    raise CommandFailed(f"the service answered {error.code}: {said}") from error
                time.sleep(float(error.headers.get("Retry-After", 1)))
            except (OSError, http.client.HTTPException) as error:
                raise CommandFailed(f"the service at {self.url} does not answer: {error!r}") from error
        png = base64.b64decode(document["data"][0]["b64_json"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("L"))

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/images/generations", data=body, headers=headers)  # noqa: S310
        with DIRECT.open(request, timeout=120) as answer:
            document: dict[str, Any] = json.load(answer)
        return document

    def generate_all(self, labels: Sequence[int]) -> list[Picture]:
        """Generate one image for each label, with the seeds 0, 1, ..."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.generate, labels, range(len(labels))))


def draw_sheet(pictures: Sequence[Picture], columns: int) -> Image.Image:
    """Lay pictures [H, W] out in rows of `columns`, each pixel SCALE wide, on a grey ground."""
    height, width = (side * SCALE for side in pictures[0].shape)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("L", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), GREY)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        tile = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def write_sheet(pictures: Sequence[Picture], columns: int, path: Path) -> None:
    """Write the sheet as PNG, through a temporary file so that a half-written picture is never left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    draw_sheet(pictures, columns).save(unfinished, format="PNG")
    unfinished.replace(path)
