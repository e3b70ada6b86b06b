"""Before workers are told to leave for others with another image, it is pulled once.

    edit of the image -> the Jobs are rehearsed -> a trial pulls it -> workers leave -> the next attempt
                               |                        |
                               refused: they train on   cannot be pulled: they train on

Only a node can tell whether there is an image by that name. So a trial (a Job of its own, children/image_trial.py) asks
one while the present workers train, and they leave when its container has started. A trial that is refused, or finds no
node for a minute, proves nothing, and holds nobody up.
"""

from datetime import datetime
from typing import Any, Literal

from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.image_trial import image_trial
from diffusion_operator.observe.image_trials import ImageTrial
from diffusion_operator.observe.raw_values import condition_of, mapping_at, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.conditions import MEANWHILE
from diffusion_operator.plan.plan import Manifest
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left
from diffusion_operator.plan.training_obstacles import Obstacle, in_stored_words, not_started
from diffusion_operator.plan.training_rehearsal import rehearsal, would_be_taken

TRIAL_SECONDS = 60
"""How long a trial may be without a node; after that workers leave untried, as they do for any other edit."""

Answer = Literal["Leave", "Wait", "Stay"]


def wanted_trial(world: TrainingWorld, training: TrainingCustomResource) -> Manifest | None:
    """The trial to apply; None where there is nothing to try, or the Jobs after it are not asked about yet."""
    trial = _candidate(world, training)
    if trial is None or not (would_be_taken(world, training) or _seen(world, trial)):
        return None
    return trial


def superfluous_trials(world: TrainingWorld, training: TrainingCustomResource) -> list[ImageTrial]:
    """Trials whose answer nobody waits for any more."""
    wanted = _candidate(world, training)
    return [trial for trial in world.image_trials if wanted is None or trial.name != wanted["metadata"]["name"]]


def may_leave(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> bool:
    """Whether others are wanted, the API server would take their Jobs, and nothing speaks against their image."""
    return would_be_taken(world, training) and _answer(world, training, now) == "Leave"


def is_tried(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> bool:
    """Whether workers train on until it is known what would become of their successors."""
    asked = bool(rehearsal(world, training)) and bool(world.history.rendezvous.members)
    return asked and (not would_be_taken(world, training) or _answer(world, training, now) == "Wait")


def image_obstacle(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> Obstacle | None:
    """Why the image cannot be had, in the stored words where these still say the same."""
    trial = _candidate(world, training)
    seen = None if trial is None else _seen(world, trial)
    if seen is None or seen.pod is None or _answer(world, training, now) != "Stay":
        return None
    stored = condition_of({"status": world.history.raw}, "Stalled")
    said = text_at(stored, "message").partition(MEANWHILE)[0]
    found = not_started(world, seen.pod)
    return None if found is None else in_stored_words(found, text_at(stored, "reason"), said)


def seconds_until_untried(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> float | None:
    """When a trial that no node has taken on is given up; None while there is none."""
    trial = _candidate(world, training)
    seen = None if trial is None else _seen(world, trial)
    waits = 0.0 if seen is None or seen.is_at_work else _seconds_left(seen, now)
    return waits if waits > 0 else None


def _candidate(world: TrainingWorld, training: TrainingCustomResource) -> Manifest | None:
    """The trial of what the spec asks for, while somebody trains with something else."""
    if not rehearsal(world, training) or not world.history.rendezvous.members:
        return None
    pools = [pool for pool in training.spec.effective_pools if pool.size > 0]
    pool = min(pools, key=lambda pool: pool.capacity != "OnDemand")
    trial = image_trial(training, pool, world.operator.trainer_image)
    return trial if any(_pulled(job.raw) != _pulled(trial) for job in world.jobs) else None


def _pulled(job: Raw) -> tuple[Any, ...]:
    """All by which the pods of a Job get their image."""
    pod = mapping_at(job, "spec", "template", "spec")
    images = [text_at(container, "image") for container in mappings_at(pod, "containers")]
    return images[:1], [text_at(secret, "name") for secret in mappings_at(pod, "imagePullSecrets")]


def _seen(world: TrainingWorld, trial: Manifest) -> ImageTrial | None:
    return next((seen for seen in world.image_trials if seen.name == trial["metadata"]["name"]), None)


def _answer(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> Answer:
    trial = _candidate(world, training)
    if trial is None or trial["metadata"]["name"] in world.refused_children:
        return "Leave"
    seen = _seen(world, trial)
    if seen is None:
        return "Wait"
    if seen.has_started:
        return "Leave"
    if seen.has_failed:
        return "Stay"
    return "Wait" if seen.is_at_work or _seconds_left(seen, now) > 0 else "Leave"


def _seconds_left(trial: ImageTrial, now: datetime) -> float:
    return seconds_left(from_timestamp(trial.created), TRIAL_SECONDS, now)
