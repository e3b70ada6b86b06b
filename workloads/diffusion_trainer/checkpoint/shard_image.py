"""A safetensors file as preallocated memory: a snapshot is one copy of each tensor, and the writer needs no tensors.

The layout is that of the file itself (8 bytes of header length, JSON header, data), in an anonymous memory file whose
descriptor is handed to the writer process. Building one touches every page, so that the first snapshot is as quick
as the later ones.
"""

import json
import mmap
import os
from collections.abc import Mapping

import torch

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def safetensors_header(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The header of a safetensors file that holds these tensors in this order, padded to a multiple of 8 bytes."""
    entries: dict[str, object] = {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class ShardImage:
    """One shard's file image. `fill` copies tensors of the same names, shapes and dtypes as at construction into it."""

    def __init__(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        # Larger elements first: so every tensor starts at a multiple of its element size.
        ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
        header = safetensors_header(ordered)
        data = sum(tensor.numel() * tensor.element_size() for tensor in ordered.values())
        self.name = name
        self.size = len(header) + data
        self.descriptor = os.memfd_create(f"checkpoint-{name}", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, self.size)
        self._memory = mmap.mmap(self.descriptor, self.size)
        self._memory[: len(header)] = header
        self._views = self._tensor_views(ordered, len(header))
        for view in self._views.values():
            view.zero_()

    def _tensor_views(self, tensors: Mapping[str, torch.Tensor], offset: int) -> dict[str, torch.Tensor]:
        views = {}
        for name, tensor in tensors.items():
            if tensor.numel() == 0:
                continue
            flat = torch.frombuffer(self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
            views[name] = flat.view(tensor.shape)
            offset += tensor.numel() * tensor.element_size()
        return views

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the tensors' values in; from an accelerator as well. Raises KeyError if one is missing."""
        with torch.no_grad():
            for name, view in self._views.items():
                view.copy_(tensors[name])

    def fits(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """True if tensors of these names and shapes can be filled in."""
        return {name: tensor.shape for name, tensor in tensors.items() if tensor.numel()} == {
            name: view.shape for name, view in self._views.items()
        }

    def close(self) -> None:
        """Give the memory back. The writer keeps its own mapping if it is still at work."""
        if self.descriptor >= 0:
            self._views.clear()
            os.close(self.descriptor)
            self.descriptor = -1
