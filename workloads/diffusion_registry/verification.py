"""Open a model version: every byte is verified against the reference's digest before anything else looks at it.

The chain has no gap: the reference pins the manifest, the manifest pins the config blob and each file by size and
sha256. index.json is not read at all, since no digest covers it. Files are hashed while they are copied, and what is
handed out is the copy, so nobody can change a file between its check and its use.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import ValidationError

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_reference import ModelReference
from diffusion_contract.model_version import CONFIG_MEDIA_TYPE, FILE_MEDIA_TYPES, ModelVersionConfig
from diffusion_registry.image_layout import blob_path, copy_and_hash
from diffusion_registry.oci_documents import TITLE_ANNOTATION, Descriptor, Manifest

LARGEST_DOCUMENT = 4 << 20
"""Bytes of a manifest or config blob; the OCI distribution specification has registries refuse larger manifests."""

RefusalReason = Literal["NotFound", "DigestMismatch", "Malformed", "NotAllowed"]


class ModelVersionRefused(Exception):
    """A model version cannot be opened. The message names the file at fault and says what to do.

    NotFound: the claim, the name or a blob is not there. DigestMismatch: bytes are not those that the reference pins.
    Malformed: the right bytes, but not a model version. NotAllowed: it holds what a model version must not hold.
    """

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def open_model_version(models_directory: Path, reference: ModelReference, target: Path) -> Path:
    """Verify `reference` below MODELS_DIRECTORY/CLAIM/NAME and copy its files to `target`, which is returned.

    `target` must not exist yet, or be an empty folder. It appears whole or not at all. Raises ModelVersionRefused,
    FileExistsError when `target` is taken, and OSError when it cannot be written, or the volume cannot be read now.
    """
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty: open a model version in a folder of its own")
    layout, manifest = _read_manifest(models_directory, reference)
    _read_config(layout, manifest)
    files = _allowed_files(manifest)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".opening-", dir=target.parent) as aside:
        whole = Path(aside) / "files"
        for name, descriptor in files.items():
            _copy_verified(layout, descriptor, whole / name, name)
        whole.replace(target)
    return target


def read_model_version(models_directory: Path, reference: ModelReference) -> ModelVersionConfig:
    """What a model version says about itself (lineage, model, license), verified. Raises ModelVersionRefused."""
    layout, manifest = _read_manifest(models_directory, reference)
    return _read_config(layout, manifest)


# --- documents ---------------------------------------------------------------------------------------------------


def _read_manifest(models_directory: Path, reference: ModelReference) -> tuple[Path, Manifest]:
    """The layout that a reference points into, and its verified manifest."""
    steps = PurePosixPath(reference.name).parts
    if ".." in (*steps, reference.claim) or reference.name.startswith("/") or "/" in reference.claim:
        raise ModelVersionRefused(
            "NotAllowed", f"{reference} leads out of the volume: use the name it was published by"
        )
    claim = models_directory / reference.claim
    if not claim.is_dir():
        raise ModelVersionRefused("NotFound", f"volume claim {reference.claim} is not mounted: check the claim's name")
    layout = claim.joinpath(*steps)
    if not layout.is_dir():
        raise ModelVersionRefused("NotFound", f"claim {reference.claim} holds no model {reference.name}: publish it")
    content = _read_document(layout, reference.digest, "the manifest")
    try:
        return layout, Manifest.model_validate_json(content)
    except ValidationError as error:
        raise _malformed(f"the manifest {reference.digest}", error) from error


def _read_config(layout: Path, manifest: Manifest) -> ModelVersionConfig:
    if manifest.config.media_type != CONFIG_MEDIA_TYPE:
        raise ModelVersionRefused("NotAllowed", f"the config blob is {manifest.config.media_type}: publish it again")
    content = _read_document(layout, manifest.config.digest, "the config blob")
    if len(content) != manifest.config.size:
        raise ModelVersionRefused("Malformed", "the config blob has another size than the manifest says: publish again")
    try:
        return ModelVersionConfig.model_validate_json(content)
    except ValidationError as error:
        raise _malformed(f"the config blob {manifest.config.digest}", error) from error


def _read_document(layout: Path, digest: str, what: str) -> bytes:
    """A small blob, verified."""
    with _opened(layout, digest, what) as blob:
        content = blob.read(LARGEST_DOCUMENT + 1)
    if sha256_of(content) != digest:
        raise _mismatch(digest, what)
    return content


def _malformed(what: str, error: ValidationError) -> ModelVersionRefused:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the document"
    return ModelVersionRefused("Malformed", f"{what} is not a model version's ({where}: {first['msg']}): publish again")


# --- files -------------------------------------------------------------------------------------------------------


def _allowed_files(manifest: Manifest) -> dict[str, Descriptor]:
    """The layers by file name. Refuses a name that leads out of the folder, one given twice, and other media types."""
    files: dict[str, Descriptor] = {}
    for layer in manifest.layers:
        name = layer.annotations.get(TITLE_ANNOTATION, "")
        path = PurePosixPath(name)
        plain = name == path.as_posix() and not path.is_absolute() and ".." not in path.parts and path.name
        if not plain or "\\" in name or "\0" in name or name in files:
            raise ModelVersionRefused("NotAllowed", f"file name {name!r} is not allowed in a model version")
        if layer.media_type != FILE_MEDIA_TYPES.get(path.suffix):
            raise ModelVersionRefused("NotAllowed", f"{name} has media type {layer.media_type}, which is not allowed")
        files[name] = layer
    if folders := {str(parent) for name in files for parent in PurePosixPath(name).parents} & files.keys():
        raise ModelVersionRefused("NotAllowed", f"{min(folders)} is a file and a folder at once")
    return files


def _copy_verified(layout: Path, descriptor: Descriptor, path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(layout, descriptor.digest, name) as blob, path.open("xb") as copy:
        digest, size = copy_and_hash(blob, copy, at_most=descriptor.size)
    if size != descriptor.size or f"sha256:{digest}" != descriptor.digest:
        raise _mismatch(descriptor.digest, name)


@contextmanager
def _opened(layout: Path, digest: str, what: str) -> Iterator[IO[bytes]]:
    path = blob_path(layout, digest)
    if not path.is_file():  # a pipe, for one, would hold the reader up for ever
        message = f"{what} is missing (blob {digest}): publish the model again, or correct the digest in the reference"
        raise ModelVersionRefused("NotFound", message)
    try:
        blob = path.open("rb")
    except PermissionError as error:
        raise ModelVersionRefused("NotFound", f"{what} may not be read (blob {digest}): check its mode") from error
    with blob:
        yield blob


def _mismatch(digest: str, what: str) -> ModelVersionRefused:
    message = f"{what} is not the published one: blob {digest} has other bytes; publish the model again"
    return ModelVersionRefused("DigestMismatch", message)
