"""Where a generation starts when no member holds any state: the newest checkpoint that holds, or step 0."""

import logging
import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from diffusion_contract.run_config import RunConfig
from diffusion_trainer import rng
from diffusion_trainer.checkpoint.aside import settle_asides
from diffusion_trainer.checkpoint.fencing import raise_fence
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.pointer import point_at_what_holds
from diffusion_trainer.checkpoint.verification import Search, VerifiedCheckpoint, find_newest, manifest_digest
from diffusion_trainer.group import Group
from diffusion_trainer.manifest_of import refuse_other_run
from diffusion_trainer.refusal import ConfigurationRefused
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.state_agreement import share_state
from diffusion_trainer.training_loop import Data
from diffusion_trainer.training_state import RNG, SHARDS, TrainingState, counters_from

log = logging.getLogger(__name__)


def start_state(
    group: Group,
    state: TrainingState,
    folder: Path,
    config: RunConfig,
    data: Data,
    report: Reporter,
    resume_step: int | None,
    attempt: int,
) -> None:
    """Rank 0 reads or starts the state and sends it to all; collective. Raises ConfigurationRefused, Fenced."""
    table: list[list[int]] = []
    if group.rank == 0:
        search = _open_newest(folder, config, report, resume_step, attempt)
        checkpoint = search.found
        if checkpoint is None:
            state.begin(config)
        else:
            refuse_other_run(checkpoint.manifest, config, data)
            table = _load(state, checkpoint)
        passed_over = (manifest_digest(folder / committed_name(passed.step)) for passed in search.passed_over)
        state.counters.abandoned = [digest for digest in passed_over if digest is not None]
    share_state(group, state, source=0)
    table = group.broadcast_json(table, source=0)
    if group.rank < len(table):
        _restore_generators(table[group.rank])


def _load(state: TrainingState, checkpoint: VerifiedCheckpoint) -> list[list[int]]:
    """Read the state of a checkpoint; returns the generators of its ranks. Raises ConfigurationRefused."""
    try:
        state.load_tensors(checkpoint.folder)
    except ValueError as error:
        version = checkpoint.manifest.code.version
        raise ConfigurationRefused(
            "spec.workers.image",
            f"the checkpoint of step {checkpoint.manifest.step} is of another network than this code builds ({error}): "
            f"go on with the image that wrote it (version {version}), or create another DiffusionTraining",
        ) from error
    state.apply_counters(counters_from(checkpoint))
    table: list[list[int]] = load_file(checkpoint.folder / RNG)["rng"].tolist()
    return table


def _restore_generators(row: list[int]) -> None:
    """Set this rank's generators as they were, unless another build of the libraries keeps them in another form."""
    try:
        rng.restore(torch.tensor(row, dtype=torch.uint8))
    except ValueError as error:
        log.warning("the random generators are not those of the checkpoint: %s", error)


def _open_newest(folder: Path, config: RunConfig, report: Reporter, resume_step: int | None, attempt: int) -> Search:
    """Shut out older attempts, then find the newest checkpoint that holds, and say what was passed over."""
    try:
        raise_fence(folder, attempt)
        settle_asides(folder)
    except OSError as error:
        # Reading may still work, and training can: each save will report what is wrong.
        log.warning("the checkpoint folder cannot be written: %s", error)
    try:
        search = find_newest(folder, config.uid, SHARDS)
    except PermissionError as error:
        raise ConfigurationRefused(
            "spec.checkpoint.storage", f"{folder} may not be read ({error.strerror}): give user {os.geteuid()} access"
        ) from error
    for passed in search.passed_over:
        log.warning("checkpoint of step %d is passed over: %s", passed.step, passed.reason)
    if search.passed_over:
        report.tell(passed_over=search.passed_over)
    step = search.found.manifest.step if search.found is not None else 0
    if resume_step is not None and step < resume_step:
        report.tell(message=f"step {resume_step} was committed, but the newest checkpoint that holds is of step {step}")
    if search.found is not None:
        point_at_what_holds(folder, step, attempt)
        log.info("resuming from the checkpoint of step %d in %s", step, search.found.folder)
        report.tell(committed=search.found.reference, verified=search.found.reference)
    return search
