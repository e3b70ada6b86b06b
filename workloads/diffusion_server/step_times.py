"""How long a step takes at each batch size, as measured at warm-up, and what that predicts.

The cost of diffusion sampling is linear in the number of steps, so the seconds of a request can be told from the
steps ahead of it. The prediction decides about admission and fills `Retry-After`.
"""

from collections.abc import Callable
from dataclasses import dataclass


def warm_up_sizes(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_rows` itself: enough points to interpolate between."""
    sizes = []
    size = 1
    while size < max_rows:
        sizes.append(size)
        size *= 2
    return (*sizes, max_rows)


@dataclass(frozen=True)
class StepTimes:
    """The curve t(b): pairs (rows, seconds of one step), by rising number of rows."""

    points: tuple[tuple[int, float], ...]

    def step_seconds(self, rows: int) -> float:
        """Seconds of one step with `rows` rows, interpolated; outside the measured range the nearest point holds."""
        below = self.points[0]
        for above in self.points:
            if rows <= above[0]:
                return _between(below, above, rows)
            below = above
        return below[1]

    def finish_seconds(self, outstanding_steps: int, steps: int, images: int) -> float:
        """Predicted seconds until `images` rows of `steps` steps are done behind `outstanding_steps` row-steps.

        A full batch of b rows does b row-steps in t(b); no row is faster than its own steps one after the other.
        """
        full, full_seconds = self.points[-1]
        in_the_crowd = (outstanding_steps + steps * images) * full_seconds / full
        alone = steps * self.step_seconds(images)
        return max(in_the_crowd, alone)


def _between(below: tuple[int, float], above: tuple[int, float], rows: int) -> float:
    span = above[0] - below[0]
    share = (rows - below[0]) / span if span > 0 else 1.0
    return below[1] + (above[1] - below[1]) * max(0.0, share)


def measure_step_times(
    run_step: Callable[[int], None], max_rows: int, clock: Callable[[], float], repeats: int = 3
) -> StepTimes:
    """Run one step at each warm-up size, once to warm up and `repeats` times to measure; the fastest counts."""
    points = []
    for rows in warm_up_sizes(max_rows):
        run_step(rows)
        points.append((rows, min(_seconds(run_step, rows, clock) for _ in range(repeats))))
    return StepTimes(tuple(points))


def _seconds(run_step: Callable[[int], None], rows: int, clock: Callable[[], float]) -> float:
    start = clock()
    run_step(rows)
    return clock() - start
