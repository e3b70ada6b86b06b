"""Who is which rank in a generation: pure functions of the operator's instruction."""

from dataclasses import dataclass

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_contract.names import RENDEZVOUS_PORT, RENDEZVOUS_PORTS


@dataclass(frozen=True)
class Placement:
    """One process's place in one generation. A member's processes have the ranks after those of earlier members."""

    generation: int
    rank: int
    world: int
    local_rank: int
    local_world: int
    master_address: str
    master_port: int


def placement(instruction: TrainerInstruction, uid: str, local_rank: int) -> Placement | None:
    """The place of process `local_rank` of the pod `uid`; None if the pod is not a member or has fewer processes."""
    before = 0
    found = None
    for member in instruction.members:
        if member.uid == uid and local_rank < member.processes:
            found = (before + local_rank, member.processes)
        before += member.processes
    if found is None or instruction.generation < 1:
        return None
    return Placement(
        generation=instruction.generation,
        rank=found[0],
        world=before,
        local_rank=local_rank,
        local_world=found[1],
        master_address=instruction.master_address or instruction.members[0].address,
        master_port=instruction.master_port or rendezvous_port(instruction.generation),
    )


def rendezvous_port(generation: int) -> int:
    """The port of a generation's store: neighbours in time never share one."""
    return RENDEZVOUS_PORT + generation % RENDEZVOUS_PORTS


def must_leave(instruction: TrainerInstruction, uid: str) -> bool:
    """True if this pod is to end: it is named as leaving, or everyone is to stop."""
    return instruction.stop or uid in instruction.leaving


def drops_without_notice(instruction: TrainerInstruction, members_before: frozenset[str]) -> bool:
    """True if a pod of the earlier generation is in the new one neither as a member nor as leaving: it may be hung."""
    announced = {member.uid for member in instruction.members} | set(instruction.leaving)
    return not members_before <= announced
