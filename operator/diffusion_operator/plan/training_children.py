"""Which children a run has now: what to apply, and which Jobs have had their day.

Jobs follow the *stored* attempt. A Job of attempt n exists only when n stands in the status, and is deleted only when
a higher one does.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from diffusion_contract.names import TEMPLATE_HASH_ANNOTATION, WORKER_HASH_ANNOTATION
from diffusion_operator.api.training_spec import PoolSpec, TrainingCustomResource
from diffusion_operator.children.claim import claims
from diffusion_operator.children.headless_service import headless_service
from diffusion_operator.children.job import training_job
from diffusion_operator.children.run_config_map import run_config_map
from diffusion_operator.children.training_disruption_budget import training_disruption_budget
from diffusion_operator.observe.image_trials import ImageTrial
from diffusion_operator.observe.raw_values import condition_of, mapping_at, text_at
from diffusion_operator.observe.training_world import TrainingJob, TrainingWorld
from diffusion_operator.plan.plan import Manifest, ObjectReference
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left
from diffusion_operator.plan.training_attempt import seconds_until_start
from diffusion_operator.plan.training_image_trial import superfluous_trials, wanted_trial
from diffusion_operator.plan.training_restarts import ending

LEFTOVER_SECONDS = 30
"""How long after the end workers are given to end by themselves."""

_ADDED_LABELS = frozenset(
    {"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"}
)
"""What the API server puts into the template of every Job, and its selector asks for."""


def wanted_children(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> tuple[Manifest, ...]:
    """What every pass applies, those that others need first."""
    attempt = max(world.history.attempt, 1)
    return (
        *claims(training, world.claims),
        run_config_map(training, world.operator.agent_ca),
        headless_service(training),
        training_disruption_budget(training, attempt),
        *_jobs(world, training, now),
        *([trial] if (trial := wanted_trial(world, training)) else ()),
    )


def _jobs(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> tuple[Manifest, ...]:
    if world.history.attempt == 0 or training.spec.suspend or world.history.rendezvous.stop:
        return ()
    if any(claim["metadata"]["name"] not in world.claims for claim in claims(training, world.claims)):
        return ()  # A claim by that name may be somebody else's, and no pod is to write there.
    if not world.jobs and seconds_until_start(world.history.next_attempt_time, now):
        return ()  # This attempt follows one that failed, and waits a little.
    existing = {job.pool: job for job in world.jobs}
    return tuple(
        _job(world, training, pool, existing.get(pool.name)) for pool in training.spec.effective_pools if pool.size > 0
    )


def _job(
    world: TrainingWorld, training: TrainingCustomResource, pool: PoolSpec, existing: TrainingJob | None
) -> Manifest:
    facts = world.operator
    built = training_job(training, pool, world.history.attempt, facts.trainer_image, facts.agent_url)
    return built if existing is None else _as_it_is(built, existing)


def _as_it_is(built: Manifest, existing: TrainingJob) -> Manifest:
    """A Job that is there, with the size that is wanted now and the pods that it was made with.

    Its template cannot change, so it is sent as at first, or else as it stands: an upgrade restarts nobody. The API
    server has added to it since. Labels are not sent with it, because once ours they could never be left out again.
    """
    made = mapping_at(existing.raw, "metadata", "annotations")
    kept = {name: made[name] for name in (WORKER_HASH_ANNOTATION, TEMPLATE_HASH_ANNOTATION) if name in made}
    metadata, spec = built["metadata"], built["spec"]
    annotations = {WORKER_HASH_ANNOTATION: metadata["annotations"][WORKER_HASH_ANNOTATION], **kept}
    template = spec["template"]
    if kept.get(TEMPLATE_HASH_ANNOTATION) != metadata["annotations"][TEMPLATE_HASH_ANNOTATION]:
        template = _without_added_labels(mapping_at(existing.raw, "spec", "template"))
    return {**built, "metadata": {**metadata, "annotations": annotations}, "spec": {**spec, "template": template}}


def _without_added_labels(template: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = mapping_at(template, "metadata", "labels")
    ours = {name: value for name, value in labels.items() if name not in _ADDED_LABELS}
    return {**template, "metadata": {**template.get("metadata", {}), "labels": ours}} if ours != labels else template


def superfluous_jobs(world: TrainingWorld, training: TrainingCustomResource) -> tuple[ObjectReference, ...]:
    """Jobs of earlier attempts, of pools that the spec no longer has, and trials whose answer nobody waits for."""
    wanted = {pool.name for pool in training.spec.effective_pools if pool.size > 0}
    dropped = [job for job in world.jobs if job.pool not in wanted]
    earlier = [job for job in world.previous if job.attempt is not None and job.attempt < world.history.attempt]
    return references_of([*earlier, *dropped, *superfluous_trials(world, training)])


def leftover_jobs(world: TrainingWorld, now: datetime) -> tuple[ObjectReference, ...]:
    """After the end: Jobs that still run somebody, and trials. Ended Jobs stay, and their pods' logs with them."""
    spared = _ending_by_themselves(world, now)
    jobs = [job for job in (*world.jobs, *world.previous) if job.outcome == "Active" and job.name not in spared]
    return references_of([*jobs, *world.image_trials])


def _ending_by_themselves(world: TrainingWorld, now: datetime) -> frozenset[str]:
    """Jobs that are left alone for LEFTOVER_SECONDS after the end, because nobody needs to end them.

    Workers that reached the target end by themselves; those of whom nothing is heard yet may be among them, when the
    operator has just started. A Job of which a worker refused (64, 93) is failed by the Job controller in a moment,
    and deleted before it would take along the log that says why.
    """
    succeeded = world.history.phase == "Succeeded"
    end = condition_of({"status": world.history.raw}, "Complete" if succeeded else "Failed")
    since = from_timestamp(text_at(end, "lastTransitionTime"))
    if not seconds_left(since, LEFTOVER_SECONDS, now):
        return frozenset()
    if succeeded:
        trained = (one for one in world.workers if one.report is None or one.report.generation > 0)
        return frozenset(worker.job for worker in trained)
    return frozenset(worker.job for worker in world.workers if ending(worker, world) == "Refused")


def references_of(jobs: Iterable[TrainingJob | ImageTrial]) -> tuple[ObjectReference, ...]:
    """`jobs` as they were seen, without those that are being deleted already."""
    return tuple(
        ObjectReference(
            api_version="batch/v1",
            kind="Job",
            namespace=text_at(job.raw, "metadata", "namespace"),
            name=job.name,
            uid=job.uid,
            resource_version=text_at(job.raw, "metadata", "resourceVersion"),
        )
        for job in jobs
        if not job.deleting
    )
