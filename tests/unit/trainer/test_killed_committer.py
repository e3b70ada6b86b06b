"""A writer that is killed with SIGKILL at any call to the file system: nothing is lost, and the next attempt mends all.

One process does it all by forks of itself: it has no threads, and tests do.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from checkpoint_samples import commit_sample
from diffusion_trainer.checkpoint.aside import settle_asides
from diffusion_trainer.checkpoint.fencing import raise_fence
from diffusion_trainer.checkpoint.retention import apply_retention
from diffusion_trainer.checkpoint.verification import find_newest

FILE_CALLS = (
    "open",
    "os.write",
    "os.fsync",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.listdir",
    "os.scandir",
    "shutil.rmtree",
)


def save_third(folder: Path, attempt: int) -> None:
    """What the writer does for one save, and what precedes it where an attempt begins."""
    raise_fence(folder, attempt)
    settle_asides(folder)
    commit_sample(folder, 3, attempt)
    apply_retention(folder, 2, 3)


def save_killed_at(deadly: int, folder: Path) -> bool:
    """Save in a fork that is killed before its file call number `deadly`; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        calls = count()

        def kill_at(call: str, *_given: object) -> None:
            if call in FILE_CALLS and next(calls) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        def audited(call: str, original: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *given: (sys.audit(call), original(*given))[1]  # type: ignore[func-returns-value]

        for name in ("write", "fsync"):  # These are not audited by themselves.
            setattr(os, name, audited(f"os.{name}", getattr(os, name)))
        sys.addaudithook(kill_at)
        save_third(folder, attempt=1)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def what_is_left(folder: Path) -> dict[str, object]:
    """The newest that holds right after the kill; then, after the next attempt's save, everything that is there."""
    found = find_newest(folder).found
    save_third(folder, attempt=2)
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("FENCE"))
    return {"newest": found and found.manifest.step, "names": names, "latest": (folder / "latest").read_text()}


def report(root: Path, third: str) -> None:
    """Print what is left after a kill at each call, a line each."""
    for deadly in count():
        folder = root / str(deadly)
        for step in (1, 2):
            commit_sample(folder, step)
        if third == "damaged":
            commit_sample(folder, 3)
            (folder / "step-00000003/model.safetensors").write_bytes(b"damaged")
        killed = save_killed_at(deadly, folder)
        print(json.dumps(what_is_left(folder)))
        if not killed:
            return


@pytest.mark.parametrize("third", ["new", "damaged"])
def test_a_killed_writer_loses_nothing_and_leaves_nothing(tmp_path: Path, third: str) -> None:
    paths = [str(Path(__file__).parents[2]), *sys.path]
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), third],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) > 30
    for outcome in outcomes:
        assert outcome["newest"] in (2, 3)
        assert outcome["names"] == ["latest", "step-00000002", "step-00000003"]
        assert outcome["latest"] == "step-00000003\n"


if __name__ == "__main__":
    report(Path(sys.argv[1]), sys.argv[2])
