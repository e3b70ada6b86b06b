"""The commit protocol on a POSIX file system.

.tmp-<step>-<attempt>-<token>/   shards, each with fsync
MANIFEST.json last, with fsync; then the folder itself
fence                            a newer attempt may have opened the run's folder: then nothing is renamed
rename to step-<step>            the commit: one step, all or nothing; then fsync of the parent. Where the name is taken
                                 by one that holds, that one is the checkpoint (aside.py)
latest                           a pointer for people and other tools (pointer.py)
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference, SaveFailure
from diffusion_contract.checkpoint_manifest import MANIFEST_NAME, CheckpointManifest, ShardFile
from diffusion_registry.durable_folders import sync_folder
from diffusion_trainer.checkpoint.aside import NAME_TAKEN, clear_the_way, manifest_if_it_holds, settle_asides
from diffusion_trainer.checkpoint.durable import write_hashed, write_new
from diffusion_trainer.checkpoint.fencing import Fenced, check_fence, raise_fence, remove_folder
from diffusion_trainer.checkpoint.names import TEMPORARY, committed_name, committed_steps, temporary_name
from diffusion_trainer.checkpoint.pointer import point_if_newest

_RENAMES = 5
MakeManifest = Callable[[dict[str, ShardFile]], CheckpointManifest]


def commit_checkpoint(
    folder: Path,
    step: int,
    attempt: int,
    shards: Mapping[str, bytes | memoryview],
    make_manifest: MakeManifest,
    abandoned: Collection[str] = (),
) -> CheckpointReference:
    """Write and commit one checkpoint; returns its reference.

    `make_manifest` is given the sizes and digests of the shards; `abandoned` are the digests of checkpoints that were
    passed over: `latest` need not name those though they are newer. Raises Fenced, or OSError (full, read-only, gone);
    in both cases nothing was committed and the temporary folder is removed as far as the file system lets us.
    A checkpoint of the same step that holds is left as it is and its reference returned, also one that another writer
    commits meanwhile; one that does not hold is replaced.
    """
    raise_fence(folder, attempt)
    settle_asides(folder)
    if (standing := manifest_if_it_holds(folder / committed_name(step))) is not None:
        return _committed(folder, standing, attempt, abandoned)
    _remove_superseded(folder, step, attempt)
    temporary = folder / temporary_name(step, attempt, os.urandom(4).hex())
    try:
        manifest = _write_files(temporary, shards, make_manifest)
        check_fence(folder, attempt)
        standing = _rename(temporary, folder / committed_name(step))
    except (OSError, Fenced):
        with contextlib.suppress(OSError):
            remove_folder(temporary)
        check_fence(folder, attempt)  # A file that vanished under the writer is the work of a newer attempt.
        raise
    return _committed(folder, standing or manifest, attempt, abandoned)


def _committed(
    folder: Path, manifest: CheckpointManifest, attempt: int, abandoned: Collection[str]
) -> CheckpointReference:
    """What follows the rename: its process may have died before, so also where a checkpoint is found standing."""
    sync_folder(folder)
    point_if_newest(folder, manifest.step, attempt, abandoned)
    return manifest.reference()


def failure_of(error: Exception) -> SaveFailure:
    """What a save that did not commit is reported as."""
    if isinstance(error, Fenced):
        return SaveFailure(reason="Fenced", message=str(error))
    if isinstance(error, OSError):
        text = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "raise checkpoint.storage.claim.size, or enlarge the claim that it names"
            return SaveFailure(reason="StorageFull", message=f"the checkpoint volume is full ({text}): {remedy}")
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return SaveFailure(reason="StorageReadOnly", message=f"the checkpoint volume cannot be written ({text})")
        return SaveFailure(reason="SaveFailed", message=f"the checkpoint could not be written ({text})")
    return SaveFailure(reason="SaveFailed", message=f"{type(error).__name__}: {error}")


def _write_files(
    temporary: Path, shards: Mapping[str, bytes | memoryview], make_manifest: MakeManifest
) -> CheckpointManifest:
    temporary.mkdir()
    files = {}
    for name, content in shards.items():
        files[name] = ShardFile(size=len(content), sha256=write_hashed(temporary / name, content))
    manifest = make_manifest(files)
    write_new(temporary / MANIFEST_NAME, manifest.to_bytes())
    sync_folder(temporary)
    return manifest


def _rename(temporary: Path, final: Path) -> CheckpointManifest | None:
    """The commit. Returns the manifest of one of this step that another writer has committed and that holds."""
    for _ in range(_RENAMES):
        try:
            temporary.rename(final)
            return None
        except OSError as error:
            if error.errno not in NAME_TAKEN:
                raise
        if (standing := manifest_if_it_holds(final)) is not None:
            remove_folder(temporary)
            return standing
        clear_the_way(final)
    raise OSError(errno.EEXIST, "others keep writing this step", str(final))


def _remove_superseded(folder: Path, step: int, attempt: int) -> None:
    """Take away what a killed writer of this attempt has left behind: what the newest commit has made superfluous.

    Not what is of `step`: another process may be saving the same one at this moment.
    """
    newest = max(committed_steps(folder), default=-1)
    for entry in folder.iterdir():
        match = TEMPORARY.match(entry.name)
        if match and int(match["attempt"]) == attempt and int(match["step"]) <= newest and int(match["step"]) != step:
            remove_folder(entry)
