"""Publish a folder as a model version in an OCI image layout on a volume.

    LAYOUT/oci-layout                 the layout's version
    LAYOUT/index.json                 the manifests, with their tags
    LAYOUT/blobs/sha256/<hex>         manifests, config blobs and files, each under its own digest

Blobs come first, each written aside, flushed to the disk and renamed; the index comes last and is replaced as a
whole. A publisher that dies leaves blobs that nobody refers to, and publishing again completes them. A lock file
keeps two publishers of one layout apart. Readers need no lock: blobs never change, and a digest finds them.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_version import ARTIFACT_TYPE, CONFIG_MEDIA_TYPE, FILE_MEDIA_TYPES, ModelVersionConfig
from diffusion_registry.durable_folders import make_folder, sync_folder
from diffusion_registry.oci_documents import (
    CREATED_ANNOTATION,
    LAYOUT_VERSION,
    MANIFEST_MEDIA_TYPE,
    NAME_ANNOTATION,
    TITLE_ANNOTATION,
    Descriptor,
    Index,
    Listed,
    Manifest,
    canonical_json,
)

CHUNK = 1 << 20
"""Bytes that are copied and hashed at a time."""
_ASIDE = ".new-"
"""How the name of a file begins that is still being written."""


class PublishRefused(ValueError):
    """The folder or the layout is not fit for publishing. The message names the file and says what to do."""


def publish(folder: Path, layout: Path, config: ModelVersionConfig, tag: str) -> str:
    """Pack `folder` into `layout` (made when missing) and return the manifest's digest, `sha256:<hex>`.

    The digest is a function of the files and of `config`; publishing the same again changes nothing. The tag is for
    people: one that is taken by another version stays there, and this version is listed as `<tag>-<12 hex digits>`.

    Raises PublishRefused for a file of a kind that model versions do not hold, and OSError when the volume is full
    or read-only; the index is then as it was.
    """
    files = _files_of(folder)
    make_folder(layout / "blobs" / "sha256")
    with _locked(layout):
        _prepare_layout(layout)
        content = canonical_json(config.to_wire())
        manifest = Manifest(
            config=_store(layout, content, CONFIG_MEDIA_TYPE),
            layers=tuple(_store_file(layout, folder, file) for file in files),
            annotations={CREATED_ANNOTATION: config.created},
        )
        stored = _store(layout, canonical_json(manifest.to_wire()), MANIFEST_MEDIA_TYPE)
        _list_in_index(layout, stored, tag)
    return stored.digest


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps the blob of a digest `sha256:<64 hex digits>`."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _files_of(folder: Path) -> list[str]:
    """The folder's files, relative with slashes and sorted. Only plain files of the allowed kinds."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise PublishRefused(f"{name} is not a plain file: replace it by its content")
        if path.is_file():
            if path.suffix not in FILE_MEDIA_TYPES:
                allowed = ", ".join(sorted(FILE_MEDIA_TYPES))
                raise PublishRefused(f"{name} is of a kind that a model version does not hold ({allowed}): remove it")
            found.append(name)
    if not found:
        raise PublishRefused(f"{folder.name} holds no files: save a model there first")
    return found


# --- blobs -------------------------------------------------------------------------------------------------------


def _prepare_layout(layout: Path) -> None:
    """Under the lock: remove what killed publishers were writing, and say that this is a layout."""
    for directory in (layout, layout / "blobs" / "sha256"):
        for leftover in directory.glob(f"{_ASIDE}*"):
            leftover.unlink(missing_ok=True)
    if not (layout / "oci-layout").exists():
        _replace(layout / "oci-layout", canonical_json({"imageLayoutVersion": LAYOUT_VERSION}))


def _store(layout: Path, content: bytes, media_type: str) -> Descriptor:
    digest = sha256_of(content)
    _replace(blob_path(layout, digest), content)
    return Descriptor(media_type=media_type, digest=digest, size=len(content))


def _store_file(layout: Path, folder: Path, file: str) -> Descriptor:
    """Copy and hash in one pass: the digest is that of the bytes that were written, whatever happens to the source."""
    with (folder / file).open("rb") as source, _written_aside(layout / "blobs" / "sha256") as (aside, name):
        digest, size = copy_and_hash(source, aside)
        sync(aside)
        name.replace(blob_path(layout, f"sha256:{digest}"))
    sync_folder(layout / "blobs" / "sha256")
    return Descriptor(
        media_type=FILE_MEDIA_TYPES[Path(file).suffix],
        digest=f"sha256:{digest}",
        size=size,
        annotations={TITLE_ANNOTATION: file},
    )


def copy_and_hash(source: IO[bytes], target: IO[bytes], at_most: int | None = None) -> tuple[str, int]:
    """Copy to the end, or until more than `at_most` bytes were read; the sha256 (hex) and size of what was copied."""
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if at_most is not None and size > at_most:
            break
        target.write(chunk)
    return digest.hexdigest(), size


# --- index -------------------------------------------------------------------------------------------------------


def _list_in_index(layout: Path, manifest: Descriptor, tag: str) -> None:
    path = layout / "index.json"
    document, listed = _read_index(path)
    if any(entry.digest == manifest.digest for entry in listed):
        return
    if any(entry.annotations.get(NAME_ANNOTATION) == tag for entry in listed):
        tag = f"{tag}-{manifest.digest.removeprefix('sha256:')[:12]}"
    entry = manifest.model_copy(update={"artifact_type": ARTIFACT_TYPE, "annotations": {NAME_ANNOTATION: tag}})
    manifests = [*document.get("manifests", ()), entry.to_wire()]
    _replace(path, canonical_json({**document, "manifests": manifests}))


def _read_index(path: Path) -> tuple[dict[str, Any], Sequence[Listed]]:
    """The index as it stands, since other tools keep keys in it that we do not know, and the manifests in it."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document, Index.model_validate(document).manifests
    except FileNotFoundError:
        return Index().to_wire(), ()
    except ValueError as error:
        raise PublishRefused(f"{path.name} is not an OCI image index: move it away and publish again") from error


@contextmanager
def _locked(layout: Path) -> Iterator[None]:
    """Hold the layout's lock. The kernel lets go of it when the process ends, however that happens."""
    with (layout / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- the disk ----------------------------------------------------------------------------------------------------


def _replace(path: Path, content: bytes) -> None:
    """Give `path` this content, durably and in one step."""
    with _written_aside(path.parent) as (aside, name):
        aside.write(content)
        sync(aside)
        name.replace(path)
    sync_folder(path.parent)


@contextmanager
def _written_aside(directory: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file in `directory` that is removed unless the block renames it. Readable by everyone who may enter."""
    with tempfile.NamedTemporaryFile(prefix=_ASIDE, dir=directory, delete=False) as aside:
        try:
            os.fchmod(aside.fileno(), 0o644)
            yield aside.file, Path(aside.name)
        finally:
            Path(aside.name).unlink(missing_ok=True)


def sync(file: IO[bytes]) -> None:
    """Flush a file to the disk."""
    file.flush()
    os.fsync(file.fileno())
