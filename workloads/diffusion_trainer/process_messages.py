"""What an agent and its trainer processes say to each other over a socket pair: one JSON document per packet."""

from diffusion_contract.agent_messages import PassedOver, TrainerFacts, TrainerInstruction, TrainerState
from diffusion_contract.frozen_model import FrozenModel


class Orders(FrozenModel):
    """Everything that a trainer process must know; each packet replaces the one before it."""

    instruction: TrainerInstruction | None = None
    terminating: bool = False
    """The pod was told to end."""


class ProcessUpdate(TrainerFacts):
    """What has changed in one trainer process; fields that are not set are as they were."""

    state: TrainerState | None = None
    generation: int | None = None
    passed_over: tuple[PassedOver, ...] | None = None
    refused_path: str | None = None
    message: str | None = None

    def to_packet(self) -> bytes:
        """Only the fields that were set, also where they were set to None."""
        return self.model_dump_json(by_alias=True, exclude_unset=True).encode()
