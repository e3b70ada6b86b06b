"""`diffusion-trainer run` on a laptop: what Ctrl-C leaves, and what the same command makes of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from deadline import wait_until
from diffusion_trainer.checkpoint.names import committed_steps
from trainer_in_process import steps_folder
from trainer_workers import LONG, NEVER, run_document


def command(folder: Path, target: int) -> list[str]:
    """The command for a run with this target; the file that it reads is written anew."""
    config = folder / "run.json"
    config.write_text(json.dumps(run_document(training={**LONG, "targetSteps": target}, checkpoint=NEVER)))
    program = [sys.executable, "-m", "diffusion_trainer.command", "run"]
    return [*program, "--config", str(config), "--output", str(folder)]


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with (
        said.open("wb") as out,
        subprocess.Popen(command(tmp_path, 100_000), stdout=out, stderr=out, start_new_session=True) as first,
    ):
        try:
            wait_until(lambda: "loss" in said.read_text(), 60, "a first step")
            os.killpg(first.pid, signal.SIGINT)  # As a terminal does: its checkpoint writer gets it too.
            assert first.wait(120) == 75, said.read_text()
        finally:
            first.kill()
    (step,) = committed_steps(steps_folder(tmp_path))
    assert "the same command again goes on from there" in said.read_text()
    assert "Traceback" not in said.read_text()

    again = subprocess.run(command(tmp_path, step + 2), capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert f"resuming from the checkpoint of step {step}" in again.stderr
    assert committed_steps(steps_folder(tmp_path)) == [step + 2, step]
    assert "published pvc://models/tiny@sha256:" in again.stdout
