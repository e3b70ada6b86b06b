"""Raw pictures as PNG. The same pixels always give the same bytes: no time, no software name, fixed compression."""

import io

from PIL import Image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def can_be_shown(channels: int) -> bool:
    """Whether a picture of so many channels has a PNG form: grey, RGB or RGBA."""
    return channels in _MODES


def to_png(picture: bytes, width: int, height: int) -> bytes:
    """Encode `picture`, bytes [H,W,C] with 0..255."""
    channels = len(picture) // (width * height)
    buffer = io.BytesIO()
    Image.frombytes(_MODES[channels], (width, height), picture).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
