"""Whether a request may join the queue: refused at once when it could not be answered in time anyway."""

from diffusion_router.door.errors import ApiError, retry_later
from diffusion_router.door.limits import ANSWER_SECONDS
from diffusion_server.step_loop import Load
from diffusion_server.step_times import StepTimes

WAITING_BATCHES = 16
MIN_WAITING_ROWS = 64


def waiting_bound(max_rows: int) -> int:
    """How many rows may wait: sixteen full batches, and never fewer than 64."""
    return max(MIN_WAITING_ROWS, WAITING_BATCHES * max_rows)


def refusal(load: Load, times: StepTimes, max_rows: int, steps: int, images: int) -> ApiError | None:
    """Why `images` rows of `steps` steps may not join, or None where they may."""
    alone = times.finish_seconds(0, steps, images)
    if alone > ANSWER_SECONDS:
        message = (
            f"the answer would take about {alone:.0f} s even on an idle engine, more than {ANSWER_SECONDS:.0f} s: "
            "ask for fewer steps or images"
        )
        return ApiError("invalid_value", message, param="steps")
    drained_in = times.finish_seconds(load.outstanding_steps, 0, 0)
    if load.running + load.waiting + images > max_rows + waiting_bound(max_rows):
        return retry_later("too_many_requests", "too many images are waiting already", drained_in)
    predicted = times.finish_seconds(load.outstanding_steps, steps, images)
    if predicted > ANSWER_SECONDS:
        message = f"the answer would take about {predicted:.0f} s, more than {ANSWER_SECONDS:.0f} s"
        return retry_later("too_many_requests", message, predicted - ANSWER_SECONDS)
    return None
