"""All facts about one DiffusionTraining at one moment, named: what `plan/training.py` decides from."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from diffusion_contract.agent_messages import TrainerReport
from diffusion_contract.names import (
    ATTEMPT_LABEL,
    ENV_PROCESSES,
    POOL_LABEL,
    RETRY_ANNOTATION,
    TRAINER_CONTAINER,
    WORKER_HASH_ANNOTATION,
)
from diffusion_contract.run_config import RUN_CONFIG_KEY, RunConfig
from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.training_spec import TrainingCustomResource, parse_training
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.creation_failures import creation_failure
from diffusion_operator.observe.image_trials import JOB_LABEL, ImageTrial, is_image_trial, observe_image_trials
from diffusion_operator.observe.nodes import NodeFacts, observe_node
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.pods import PodFacts, observe_pod
from diffusion_operator.observe.raw_values import (
    condition_of,
    decimal_label,
    integer_at,
    label_of,
    mappings_at,
    text_at,
)
from diffusion_operator.observe.snapshot import PodName, Raw, Reference, Snapshot
from diffusion_operator.observe.training_history import TrainingHistory, read_history

JobOutcome = Literal["Active", "Complete", "Failed"]
_REQUEST = re.compile(r"^[A-Z]+ /\S+: ")
"""How the refusal of a request begins; the API server's own sentence follows."""

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class TrainingJob:
    """The Job of one pool in one attempt. `attempt` is None on a Job whose label somebody removed or broke.

    `creation_failure`: why its controller could not make a pod, since the newest that it made; empty where it could.
    """

    name: str
    uid: str
    pool: str
    attempt: int | None
    outcome: JobOutcome
    message: str
    worker_hash: str
    succeeded: int
    active: int
    size: int
    deleting: bool
    raw: Raw
    creation_failure: str = ""


@dataclass(frozen=True)
class Worker:
    """One worker pod of the current attempt, its node, and what its agent last said.

    `report` is None while the agent has not been heard (by this process of the operator) for this attempt.
    `connected`: it holds a poll open; False is a hint of its death, and None is unknown. `processes`: how many it was
    started with, whatever the spec says by now; None where the pod does not tell. `has_trained`: the status names it,
    as a member of this generation or as one that left an earlier one. `advanced`: when it came to the step, state and
    generation of its report. `missed`: it is silent, and those who train with it stand still.
    """

    pod: PodFacts
    pool: str
    index: int | None
    job: str
    node: NodeFacts
    report: TrainerReport | None
    connected: bool | None
    heard: datetime | None = None
    processes: int | None = None
    has_trained: bool = False
    advanced: datetime | None = None
    missed: bool = False

    @property
    def noticed(self) -> bool:
        """Whether this worker's node has announced its end.

        An announcement that is older than the pod is not one to it: the scheduler put the pod there all the same, and
        a worker that leaves such a node might come back to it for ever. Where nobody says when it was made, it counts
        for those who have trained there only.
        """
        since, created = self.node.since, self.pod.created
        if self.node.state != "Noticed":
            return False
        return self.has_trained if not since else not created or since >= created


@dataclass(frozen=True)
class TrainingWorld:
    """One DiffusionTraining. `training` is None where its spec cannot be used, and `refused` says why.

    `jobs` are those of the current attempt, `previous` those of earlier ones and of none. `claims`: those that we made;
    `missing_claims`: those that the spec names and the API server does not have. `refusals`: sentences by which the
    API server refused our writes; that there is none means nothing before this process `has_applied` any.
    `rehearsals`: by the digest of a manifest, why it would refuse that, or "" where it would not. `run`: what the pods
    of this run read now; None where it cannot be read. `retry`: the annotation by which a failed run is asked for
    once more, empty where there is none. `runs_before`: pods of `previous` that have not ended. `refused_children`:
    names of the children that `refusals` are about.
    """

    name: str
    namespace: str
    generation: int
    training: TrainingCustomResource | None
    refused: SpecInvalid | None
    history: TrainingHistory
    operator: OperatorFacts
    jobs: tuple[TrainingJob, ...] = ()
    previous: tuple[TrainingJob, ...] = ()
    workers: tuple[Worker, ...] = ()
    missing_claims: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    has_applied: bool = True
    claims: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    runs_before: int = 0
    retry: str = ""
    run: RunConfig | None = None
    rehearsals: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    image_trials: tuple[ImageTrial, ...] = ()
    refused_children: frozenset[str] = frozenset()


def references(custom_resource: Raw) -> tuple[Reference, ...]:
    """The claims that the spec names and somebody else makes."""
    namespace = text_at(custom_resource, "metadata", "namespace")
    names = (
        text_at(custom_resource, "spec", "checkpoint", "storage", "existingClaim"),
        text_at(custom_resource, "spec", "publish", "existingClaim"),
    )
    return tuple(Reference("v1", "PersistentVolumeClaim", namespace, name) for name in dict.fromkeys(names) if name)


def members(custom_resource: Raw) -> tuple[PodName, ...]:
    """The workers that train together, by the stored status. Their Job may be gone while they go on."""
    return tuple(PodName(one.pod, one.uid) for one in read_history(custom_resource).rendezvous.members)


def observe_training(snapshot: Snapshot, reports: Mapping[str, AgentRecord]) -> TrainingWorld:
    """Raw objects and agents' reports (by pod UID) become facts; nothing in them makes this raise."""
    raw = snapshot.custom_resource
    training, refused = _parse(raw)
    history = read_history(raw)
    jobs = tuple(_job(child, snapshot) for child in snapshot.children if _is_workers_job(child))
    current = tuple(job for job in jobs if job.attempt == history.attempt)
    return TrainingWorld(
        name=text_at(raw, "metadata", "name"),
        namespace=text_at(raw, "metadata", "namespace"),
        generation=integer_at(raw, "metadata", "generation") or 0,
        training=training,
        refused=refused,
        history=history,
        operator=snapshot.operator,
        jobs=current,
        previous=tuple(job for job in jobs if job.attempt != history.attempt),
        workers=_workers(snapshot, reports, history),
        claims=dict(_claims(snapshot)),
        runs_before=_runs_before(snapshot, history),
        retry=text_at(raw, "metadata", "annotations", RETRY_ANNOTATION),
        run=_run(snapshot),
        rehearsals={digest: _REQUEST.sub("", sentence) for digest, sentence in snapshot.rehearsals.items()},
        has_applied=snapshot.has_applied,
        refusals=tuple(_REQUEST.sub("", one.message) for one in snapshot.refusals),
        refused_children=frozenset(one.name for one in snapshot.refusals),
        image_trials=tuple(observe_image_trials(snapshot.children)),
        missing_claims=tuple(ref.name for ref, found in snapshot.referenced.items() if found is None),
    )


def _is_workers_job(child: Raw) -> bool:
    return child.get("kind") == "Job" and not is_image_trial(child)


def _claims(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for child in snapshot.children:
        if child.get("kind") == "PersistentVolumeClaim" and not text_at(child, "metadata", "deletionTimestamp"):
            yield text_at(child, "metadata", "name"), text_at(child, "spec", "resources", "requests", "storage")


def _run(snapshot: Snapshot) -> RunConfig | None:
    documents = (text_at(child, "data", RUN_CONFIG_KEY) for child in snapshot.children if child["kind"] == "ConfigMap")
    try:
        return next((RunConfig.model_validate_json(text) for text in documents if text), None)
    except ValidationError:
        return None


def _parse(raw: Raw) -> tuple[TrainingCustomResource | None, SpecInvalid | None]:
    try:
        return parse_training(raw), None
    except SpecInvalid as refused:
        return None, refused


def _job(raw: Raw, snapshot: Snapshot) -> TrainingJob:
    failed, complete = condition_of(raw, "Failed"), condition_of(raw, "Complete")
    target = condition_of(raw, "FailureTarget")
    outcome: JobOutcome = "Active"
    if complete.get("status") == "True":
        outcome = "Complete"
    if failed.get("status") == "True" or target.get("status") == "True":
        outcome = "Failed"
    return TrainingJob(
        name=text_at(raw, "metadata", "name"),
        uid=text_at(raw, "metadata", "uid"),
        pool=label_of(raw, POOL_LABEL),
        attempt=decimal_label(raw, ATTEMPT_LABEL),
        outcome=outcome,
        message=text_at(failed, "message") or text_at(target, "message"),
        worker_hash=text_at(raw, "metadata", "annotations", WORKER_HASH_ANNOTATION),
        succeeded=integer_at(raw, "status", "succeeded") or 0,
        active=integer_at(raw, "status", "active") or 0,
        size=integer_at(raw, "spec", "parallelism") or 0,
        deleting=bool(text_at(raw, "metadata", "deletionTimestamp")),
        raw=raw,
        creation_failure=_creation_failure(raw, snapshot),
    )


def _creation_failure(job: Raw, snapshot: Snapshot) -> str:
    """An event that is older than the Job's newest pod is history: it has made that one since."""
    name, uid = text_at(job, "metadata", "name"), text_at(job, "metadata", "uid")
    pods = (child for child in snapshot.children if child.get("kind") == "Pod" and label_of(child, JOB_LABEL) == name)
    newest = max((text_at(pod, "metadata", "creationTimestamp") for pod in pods), default="")
    return creation_failure(snapshot.creation_failures.get(uid, ()), newest)


def _workers(snapshot: Snapshot, reports: Mapping[str, AgentRecord], history: TrainingHistory) -> tuple[Worker, ...]:
    attempt, uids = history.attempt, history.rendezvous.uids
    pods = (child for child in snapshot.children if child.get("kind") == "Pod")
    mine = (p for p in pods if decimal_label(p, ATTEMPT_LABEL) == attempt or text_at(p, "metadata", "uid") in uids)
    trained = uids | frozenset(history.rendezvous.leaving) | {entry.uid for entry in history.preemptions}
    return tuple(_worker(pod, snapshot, reports, attempt, trained) for pod in mine)


def _runs_before(snapshot: Snapshot, history: TrainingHistory) -> int:
    pods = [child for child in snapshot.children if child.get("kind") == "Pod"]
    earlier = [pod for pod in pods if (decimal_label(pod, ATTEMPT_LABEL) or history.attempt) < history.attempt]
    return sum(not observe_pod(pod, TRAINER_CONTAINER).terminal for pod in earlier)


def _worker(
    raw: Raw, snapshot: Snapshot, reports: Mapping[str, AgentRecord], attempt: int, trained: frozenset[str]
) -> Worker:
    pod = observe_pod(raw, TRAINER_CONTAINER)
    record = reports.get(pod.uid)
    report = record.report if record and isinstance(record.report, TrainerReport) else None
    heard = record is not None and report is not None and report.attempt == attempt
    return Worker(
        pod=pod,
        pool=label_of(raw, POOL_LABEL),
        index=decimal_label(raw, INDEX_LABEL),
        job=label_of(raw, JOB_LABEL),
        node=observe_node(snapshot.nodes.get(pod.node)) if pod.node else NodeFacts("Fine"),
        report=report if heard else None,
        connected=record.connected if heard and record else None,
        heard=record.received if heard and record else None,
        advanced=(record.advanced or record.received) if heard and record else None,
        processes=_processes(raw),
        has_trained=pod.uid in trained,
    )


def _processes(pod: Raw) -> int | None:
    for container in mappings_at(pod, "spec", "containers"):
        for variable in mappings_at(container, "env"):
            text = text_at(variable, "value")
            if text_at(variable, "name") == ENV_PROCESSES and text.isdecimal() and len(text) < 4:
                return int(text) or None
    return None
