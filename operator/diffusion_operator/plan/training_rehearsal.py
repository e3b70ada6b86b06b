"""Before workers are told to leave for others, the API server is asked whether it would take the others.

The schema cannot know all that it refuses in a pod. Without this a slip in `workers` or `pools` would end the workers
that train and start none: the next attempt's Jobs would be refused. So those Jobs are rehearsed first (a dry run, which
stores nothing), and a refusal is told as a condition while the run goes on with the workers that it has.

What speaks of other things than the Jobs themselves is no refusal: a quota is freed by the Jobs that go, and an
admission webhook that cannot be asked without consequences is asked when it counts.
"""

from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.job import training_job, worker_hash
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.plan import Manifest, manifest_digest

REHEARSE_AGAIN_SECONDS = 10.0
"""How long a refusal is believed: the policy behind it may have changed."""

_NO_REFUSALS = ("exceeded quota", "does not support dry run")


def workers_changed(world: TrainingWorld, training: TrainingCustomResource) -> bool:
    """Whether a Job of this attempt was made from another image, template or node choice than the spec has now."""
    wanted = {pool.name: worker_hash(training, pool) for pool in training.spec.effective_pools}
    return any(job.worker_hash not in ("", wanted.get(job.pool, job.worker_hash)) for job in world.jobs)


def rehearsal(world: TrainingWorld, training: TrainingCustomResource) -> tuple[Manifest, ...]:
    """The Jobs of the next attempt, while others than the present ones are wanted and nobody leaves for them yet."""
    if training.spec.suspend or world.history.rendezvous.stop or not workers_changed(world, training):
        return ()
    following, facts = world.history.attempt + 1, world.operator
    return tuple(
        training_job(training, pool, following, facts.trainer_image, facts.agent_url)
        for pool in training.spec.effective_pools
        if pool.size > 0
    )


def would_be_taken(world: TrainingWorld, training: TrainingCustomResource) -> bool:
    """Whether other workers are wanted, and the API server would take every one of their Jobs."""
    jobs = rehearsal(world, training)
    answers = [world.rehearsals.get(manifest_digest(job)) for job in jobs]
    return bool(jobs) and all(answer is not None and not _is_refusal(answer) for answer in answers)


def why_not(world: TrainingWorld, training: TrainingCustomResource) -> str:
    """The API server's sentence about the first Job that it would refuse; empty while there is none."""
    answers = (world.rehearsals.get(manifest_digest(job), "") for job in rehearsal(world, training))
    return next((answer for answer in answers if _is_refusal(answer)), "")


def _is_refusal(answer: str) -> bool:
    return bool(answer) and not any(words in answer for words in _NO_REFUSALS)
