"""After members have met: whose state the generation goes on with, and who has to be sent it."""

from dataclasses import asdict, dataclass

from diffusion_trainer.group import Group
from diffusion_trainer.training_state import Counters, TrainingState


@dataclass(frozen=True)
class Standing:
    """What one rank holds: `step` -1 is nothing. Two ranks hold the same if all three are equal."""

    step: int
    made_in: int
    checksum: float


@dataclass(frozen=True)
class Agreement:
    """The rank whose state is used (None: no rank has any), and whether all hold it already."""

    source: int | None
    everyone_has_it: bool


def agree(standings: list[Standing]) -> Agreement:
    """The most advanced state wins; at the same step the one made in the later generation; then the lowest rank."""
    best = max(standings, key=lambda one: (one.step, one.made_in))
    if best.step < 0:
        return Agreement(None, everyone_has_it=False)
    source = standings.index(best)
    return Agreement(source, everyone_has_it=all(one == standings[source] for one in standings))


def find_most_advanced(group: Group, state: TrainingState) -> Agreement:
    """Compare what all ranks hold; collective."""
    counters = state.counters
    if counters.step is None:
        row = [-1.0, 0.0, 0.0]
    else:
        row = [float(counters.step), float(counters.made_in), state.checksum()]
    rows = group.gather(row).tolist()
    return agree([Standing(int(step), int(made_in), checksum) for step, made_in, checksum in rows])


def share_state(group: Group, state: TrainingState, source: int) -> None:
    """Send the whole state of `source` to every rank; collective.

    Where the source is lost in the middle, the others hold no state any more: half of one is none to go on with.
    """
    counters = Counters(**group.broadcast_json(asdict(state.counters), source))
    if group.rank != source:
        state.tear()
    group.broadcast_tensors(state.tensors(), source)
    if group.rank != source:
        state.apply_counters(counters)
