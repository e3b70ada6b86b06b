"""File names inside a run's checkpoint folder, `CHECKPOINT_DIRECTORY/<name>/<uid>/`."""

import re
from pathlib import Path

FENCE = re.compile(r"^FENCE-(?P<attempt>\d+)$")
LATEST = "latest"
TEMPORARY = re.compile(r"^\.tmp-(?P<step>\d{8,})-(?P<attempt>\d+)(-[0-9a-z]+)?$")
NEW_POINTER = re.compile(r"^\.latest-(?P<attempt>\d+)-[0-9a-f]+$")
COMMITTED = re.compile(r"^step-(?P<step>\d{8}|[1-9]\d{8,})$")


def run_folder(root: Path, name: str, uid: str) -> Path:
    """The folder that holds all checkpoints of one run."""
    return root / name / uid


def fence_name(attempt: int) -> str:
    """`FENCE-<attempt>`: an empty file that says that this attempt has opened the run's folder."""
    return f"FENCE-{attempt}"


def committed_name(step: int) -> str:
    """`step-%08d`: what a checkpoint is called from its commit on."""
    return f"step-{step:08d}"


def temporary_name(step: int, attempt: int, token: str) -> str:
    """`.tmp-<step>-<attempt>-<token>`: a checkpoint on its way; the token keeps two writers of one attempt apart."""
    return f".tmp-{step:08d}-{attempt}-{token}"


def new_pointer_name(attempt: int, token: str) -> str:
    """`.latest-<attempt>-<token>`: a pointer on its way."""
    return f".{LATEST}-{attempt}-{token}"


def committed_steps(folder: Path) -> list[int]:
    """Steps of the committed checkpoints, newest first; empty where the folder is not there."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((int(match["step"]) for name in names if (match := COMMITTED.match(name))), reverse=True)
