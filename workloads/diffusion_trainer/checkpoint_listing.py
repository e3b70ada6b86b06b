"""What `diffusion-trainer checkpoints` prints: every checkpoint below a folder, and whether it holds."""

from pathlib import Path

from diffusion_trainer.checkpoint.names import COMMITTED, committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, verify_checkpoint


def listing(root: Path) -> tuple[list[str], bool]:
    """The lines to print, and whether all checkpoints hold (and there is at least one)."""
    folders = sorted({found.parent for found in root.rglob("step-*") if COMMITTED.match(found.name)})
    lines, all_hold = [], bool(folders)
    for folder in folders:
        lines.append(f"{folder}:")
        for step in committed_steps(folder):
            try:
                reference = verify_checkpoint(folder / committed_name(step)).reference
                lines.append(f"  step {step}  {reference.time}  {reference.digest}  holds")
            except CheckpointInvalid as error:
                all_hold = False
                lines.append(f"  step {step}  DOES NOT HOLD: {error}")
    return lines or [f"no checkpoints below {root}"], all_hold
