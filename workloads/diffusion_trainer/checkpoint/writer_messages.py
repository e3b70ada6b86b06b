"""What a trainer and its checkpoint writer say to each other: one JSON document per packet."""

from typing import Annotated

from pydantic import Field

from diffusion_contract.agent_messages import CheckpointReference, SaveFailure
from diffusion_contract.checkpoint_manifest import CheckpointManifest
from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import Sha256


class ShardSize(FrozenModel):
    """A shard's file name and its size; its descriptor travels with the packet, in the same order."""

    name: str
    size: int


class SaveOrder(FrozenModel):
    """Commit this snapshot. `manifest` lacks only the files; `folder` is the run's checkpoint folder."""

    folder: str
    manifest: CheckpointManifest
    shards: tuple[ShardSize, ...]
    retain_last: Annotated[int, Field(ge=1)]
    urgent: bool = False
    """Somebody waits for this one: it is not written behind the back of the training."""
    abandoned: tuple[Sha256, ...] = ()
    """Digests of checkpoints that this line has passed over: none of them is its parent."""


class SaveResult(FrozenModel):
    """What became of it. First the commit (or failure), then, for a commit, the verification."""

    step: int
    committed: CheckpointReference | None = None
    verified: CheckpointReference | None = None
    failure: SaveFailure | None = None
    seconds: float = 0
    """From the order to the commit."""


MAX_SHARDS = 16
"""Most shards of one order: descriptors that come with one packet."""
