"""What checkpoints there are, which of them hold, and the newest of those.

A checkpoint holds when its manifest is canonical and every file that it names has the size and the sha256 written
there. Nothing is parsed before its digest has been checked.
"""

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference, PassedOver
from diffusion_contract.checkpoint_manifest import MANIFEST_NAME, CheckpointManifest, parse_manifest
from diffusion_trainer.checkpoint.names import committed_name, committed_steps


class CheckpointInvalid(Exception):
    """A committed checkpoint that does not hold; `str()` says which file and why."""


class CheckpointUnreadable(CheckpointInvalid):
    """A checkpoint of which a read has failed: nobody can go on from it now, and yet every byte of it may be right."""


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint whose every digest was just found right."""

    folder: Path
    manifest: CheckpointManifest

    @property
    def reference(self) -> CheckpointReference:
        """Its step, digest and time, as reports name it."""
        return self.manifest.reference()


@dataclass(frozen=True)
class Search:
    """The newest checkpoint that holds, if any, and the newer ones that do not."""

    found: VerifiedCheckpoint | None
    passed_over: tuple[PassedOver, ...] = ()


def file_digest(path: Path) -> str:
    """The sha256 of a file as `sha256:<hex>`, read past the page cache where the system lets us."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        # By reads, and not by a map of the file: there a disk that fails ends the process with SIGBUS.
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def read_manifest(folder: Path) -> CheckpointManifest:
    """The manifest of one committed checkpoint; raises CheckpointInvalid."""
    try:
        return parse_manifest((folder / MANIFEST_NAME).read_bytes())
    except OSError as error:
        raise _failed_read(MANIFEST_NAME, error) from error
    except ValueError as error:
        raise CheckpointInvalid(f"{MANIFEST_NAME}: {str(error).splitlines()[0]}") from error


def _failed_read(name: str, error: OSError) -> CheckpointInvalid:
    """What a failed read says of its checkpoint: only a file that is not there is known to be wrong."""
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return (CheckpointInvalid if missing else CheckpointUnreadable)(f"{name}: {error.strerror}")


def verify_checkpoint(
    folder: Path, run_uid: str | None = None, name: str | None = None, shards: Collection[str] = ()
) -> VerifiedCheckpoint:
    """Check every digest of one committed checkpoint, called `name` or as its folder is; raises CheckpointInvalid.

    `shards` are files that its manifest must name.
    """
    manifest = read_manifest(folder)
    if (name or folder.name) != committed_name(manifest.step):
        raise CheckpointInvalid(f"{MANIFEST_NAME} is for step {manifest.step}, the folder is {name or folder.name}")
    if run_uid is not None and manifest.run_uid != run_uid:
        raise CheckpointInvalid(f"{MANIFEST_NAME} belongs to another run ({manifest.run_uid})")
    if missing := sorted(set(shards) - manifest.files.keys()):
        raise CheckpointInvalid(f"{MANIFEST_NAME} does not name {missing[0]}")
    for shard, expected in manifest.files.items():
        path = folder / shard
        try:
            size = path.stat().st_size
            if size != expected.size:
                raise CheckpointInvalid(f"{shard} has {size} bytes, its manifest says {expected.size}")
            if file_digest(path) != expected.sha256:
                raise CheckpointInvalid(f"{shard} has another sha256 than its manifest says")
        except OSError as error:
            raise _failed_read(shard, error) from error
    return VerifiedCheckpoint(folder, manifest)


def find_newest(folder: Path, run_uid: str | None = None, shards: Collection[str] = ()) -> Search:
    """Go from the newest committed checkpoint to the oldest until one holds; say what was passed over and why.

    One that holds belongs to the run, and names these shards.
    """
    passed_over = []
    for step in committed_steps(folder):
        try:
            found = verify_checkpoint(folder / committed_name(step), run_uid, shards=shards)
        except CheckpointInvalid as error:
            passed_over.append(PassedOver(step=step, reason=str(error)))
        else:
            return Search(found, tuple(passed_over))
    return Search(None, tuple(passed_over))


def manifest_digest(folder: Path) -> str | None:
    """The digest of one committed checkpoint, whether its files hold or not; None where its manifest cannot be read."""
    try:
        return read_manifest(folder).reference().digest
    except CheckpointInvalid:
        return None


def commits_of_line(folder: Path, abandoned: Collection[str] = ()) -> Iterator[tuple[int, str]]:
    """Step and digest of the committed checkpoints, newest first, without those that were passed over.

    `abandoned` are the digests of what was passed over when this line of training began. One whose manifest cannot be
    read is of no line.
    """
    for step in committed_steps(folder):
        digest = manifest_digest(folder / committed_name(step))
        if digest is not None and digest not in abandoned:
            yield step, digest


def newest_digest_below(folder: Path, step: int, abandoned: Collection[str] = ()) -> str | None:
    """The parent of a checkpoint of `step` that is written now: the newest before it that was not passed over."""
    return next((digest for earlier, digest in commits_of_line(folder, abandoned) if earlier < step), None)
