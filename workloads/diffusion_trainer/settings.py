"""What a trainer pod knows about itself: its environment and mounts, read once by the agent and handed down."""

from collections.abc import Mapping
from pathlib import Path

from diffusion_contract import names
from diffusion_contract.frozen_model import FrozenModel


class Settings(FrozenModel):
    """Identity and places of one worker. Processes of the pod get it as JSON from their agent."""

    pod: str = "local"
    uid: str = "local"
    address: str = "127.0.0.1"
    attempt: int = 0
    processes: int = 1
    config_file: Path
    checkpoints: Path = Path(names.CHECKPOINT_DIRECTORY)
    models: Path = Path(names.MODELS_DIRECTORY)
    scratch: Path = Path(names.SCRATCH_DIRECTORY)
    termination_file: Path = Path(names.TERMINATION_FILE)
    rendezvous_seconds: float = 30
    """How long members of one generation wait for each other before they ask for the next one."""
    operator_patience_seconds: float = 2
    """How long a worker that was told to end waits for the operator before it stops the group by itself."""
    beat_seconds: float = 5
    """How often the agent asks its processes for a sign of life; see child_process."""
    leave_seconds: float = 60
    """How long a leaving worker waits for the commit that holds its last step."""
    grace_seconds: float = 12
    """How long after SIGTERM it waits at most if another worker writes that commit: spot nodes give 15 s."""


def settings_from(environment: Mapping[str, str], places: Mapping[str, object]) -> Settings:
    """Settings of the pod that this process runs in; `places` replaces folders and times. Raises ValueError."""
    known: dict[str, object] = {
        "pod": environment.get(names.ENV_POD_NAME, "local"),
        "uid": environment.get(names.ENV_POD_UID, "local"),
        "address": environment.get(names.ENV_POD_IP, "127.0.0.1"),
        "attempt": environment.get(names.ENV_ATTEMPT, "0"),
        "processes": environment.get(names.ENV_PROCESSES, "1"),
        "config_file": environment.get(names.ENV_CONFIG_FILE, f"{names.CONFIG_DIRECTORY}/run.json"),
    }
    return Settings.model_validate(known | {name: value for name, value in places.items() if value is not None})
