"""All facts about one DiffusionService at one moment, named: what `plan/service.py` decides from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from diffusion_contract.api_key_hash import SHAPE
from diffusion_contract.model_reference import parse_model_reference
from diffusion_contract.names import API_VERSION, ENGINE_ROLE, REVISION_LABEL, ROLE_LABEL, ROUTER_ROLE
from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.service_revision import REVISION_KEY, RevisionSpec
from diffusion_operator.api.service_spec import DiffusionServiceSpec, parse_service_spec
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.raw_values import integer_at, label_of, mapping_at, text_at
from diffusion_operator.observe.service_history import ServiceHistory, is_reference, read_history
from diffusion_operator.observe.service_routers import RouterFacts, observe_routers
from diffusion_operator.observe.service_workloads import WorkloadFacts, observe_workload
from diffusion_operator.observe.snapshot import Raw, Reference, Refusal, Snapshot

_OF_A_REVISION = ("Deployment", "Service", "ConfigMap", "PodDisruptionBudget")


@dataclass(frozen=True)
class TrainingFacts:
    """The DiffusionTraining of `model.fromTraining`.

    `published` is the reference of what it came to, empty before it has succeeded: a run whose target was raised while
    it published goes on, and publishes once more.
    """

    phase: str
    message: str
    published: str
    publishes: bool


@dataclass(frozen=True)
class RevisionObject:
    """One object of a revision, as it was seen: what it takes to delete exactly this one."""

    revision: str
    api_version: str
    kind: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True)
class ServiceWorld:
    """One DiffusionService. `spec` is None where it cannot be used, and `refused` says why.

    `engines` by revision: those whose Deployment exists. `routers`: their pods that have not ended. `recipes` by
    revision: read from the ConfigMaps. `claims`: whether the claim of this name exists; a name that is missing here is
    unknown. `keys_found`, `keys`: whether the Secret of `auth.keysRef` exists and how many entries it has; None is
    unknown. `bad_keys`: names of those entries that let nobody in, because they are no hash of a key. `training` is
    None where there is none. `refusals`: writes of the last pass to which the API server said no; that there is
    none means nothing before this process `has_applied` any.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    spec: DiffusionServiceSpec | None
    refused: SpecInvalid | None
    history: ServiceHistory
    operator: OperatorFacts
    engines: Mapping[str, WorkloadFacts] = field(default_factory=dict)
    recipes: Mapping[str, RevisionSpec] = field(default_factory=dict)
    router: WorkloadFacts | None = None
    routers: tuple[RouterFacts, ...] = ()
    claims: Mapping[str, bool] = field(default_factory=dict)
    keys_found: bool | None = None
    keys: int = 0
    bad_keys: tuple[str, ...] = ()
    training: TrainingFacts | None = None
    objects: tuple[RevisionObject, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    has_applied: bool = True


def references(custom_resource: Raw) -> tuple[Reference, ...]:
    """The Secret, claim and training that the spec and the status name, whatever sense these make."""
    namespace = text_at(custom_resource, "metadata", "namespace")
    model = mapping_at(custom_resource, "spec", "model")
    texts = (text_at(model, "ref"), text_at(custom_resource, "status", "model", "reference"))
    claims = (parse_model_reference(text).claim for text in texts if is_reference(text))
    found = (
        Reference("v1", "Secret", namespace, text_at(custom_resource, "spec", "auth", "keysRef", "name")),
        *(Reference("v1", "PersistentVolumeClaim", namespace, claim) for claim in claims),
        Reference(API_VERSION, "DiffusionTraining", namespace, text_at(model, "fromTraining", "name")),
    )
    return tuple(dict.fromkeys(reference for reference in found if reference.name))


def observe_service(snapshot: Snapshot, reports: Mapping[str, AgentRecord]) -> ServiceWorld:
    """Raw objects and routers' reports (by pod UID) become facts; nothing in them makes this raise."""
    raw = snapshot.custom_resource
    spec, refused = _parse(raw)
    secret = _answers(snapshot, "Secret")
    training = _answers(snapshot, "DiffusionTraining")
    return ServiceWorld(
        name=text_at(raw, "metadata", "name"),
        namespace=text_at(raw, "metadata", "namespace"),
        uid=text_at(raw, "metadata", "uid"),
        generation=integer_at(raw, "metadata", "generation") or 0,
        spec=spec,
        refused=refused,
        history=read_history(raw),
        operator=snapshot.operator,
        engines=_engines(snapshot),
        recipes=_recipes(snapshot),
        router=_router(snapshot),
        routers=observe_routers(_pods(snapshot, ROUTER_ROLE), reports),
        claims={name: found is not None for name, found in _answers(snapshot, "PersistentVolumeClaim").items()},
        keys_found=next((found is not None for found in secret.values()), None),
        keys=sum(len(mapping_at(found, "data")) for found in secret.values()),
        bad_keys=tuple(
            name for found in secret.values() for name, form in mapping_at(found, "data").items() if form != SHAPE
        ),
        training=next((_training(found) for found in training.values() if found is not None), None),
        objects=tuple(_object(child) for child in snapshot.children if _belongs_to_a_revision(child)),
        refusals=snapshot.refusals,
        has_applied=snapshot.has_applied,
    )


def _parse(raw: Raw) -> tuple[DiffusionServiceSpec | None, SpecInvalid | None]:
    try:
        return parse_service_spec(raw), None
    except SpecInvalid as refused:
        return None, refused


def _answers(snapshot: Snapshot, kind: str) -> dict[str, Raw | None]:
    return {ref.name: found for ref, found in snapshot.referenced.items() if ref.kind == kind}


def _training(raw: Raw) -> TrainingFacts:
    succeeded = text_at(raw, "status", "phase") == "Succeeded"
    published = text_at(raw, "status", "published", "reference") if succeeded else ""
    return TrainingFacts(
        phase=text_at(raw, "status", "phase"),
        message=text_at(raw, "status", "message"),
        published=published if is_reference(published) else "",
        publishes=bool(mapping_at(raw, "spec", "publish")),
    )


def _pods(snapshot: Snapshot, role: str) -> list[Raw]:
    return [child for child in snapshot.children if child.get("kind") == "Pod" and label_of(child, ROLE_LABEL) == role]


def _deployments(snapshot: Snapshot, role: str) -> list[Raw]:
    wanted = (child for child in snapshot.children if child.get("kind") == "Deployment")
    return [child for child in wanted if label_of(child, ROLE_LABEL) == role and not _is_deleted(child)]


def _is_deleted(raw: Raw) -> bool:
    return bool(text_at(raw, "metadata", "deletionTimestamp"))


def _engines(snapshot: Snapshot) -> dict[str, WorkloadFacts]:
    pods = _pods(snapshot, ENGINE_ROLE)
    found = {}
    for deployment in _deployments(snapshot, ENGINE_ROLE):
        revision = label_of(deployment, REVISION_LABEL)
        found[revision] = observe_workload(deployment, (p for p in pods if label_of(p, REVISION_LABEL) == revision))
    return found


def _router(snapshot: Snapshot) -> WorkloadFacts | None:
    pods = _pods(snapshot, ROUTER_ROLE)
    return next((observe_workload(deployment, pods) for deployment in _deployments(snapshot, ROUTER_ROLE)), None)


def _recipes(snapshot: Snapshot) -> dict[str, RevisionSpec]:
    """Only those that still hash to the revision that they are filed under: a recipe is evidence or it is nothing."""
    found = {}
    for child in snapshot.children:
        revision = label_of(child, REVISION_LABEL)
        recipe = _recipe(text_at(child, "data", REVISION_KEY)) if child.get("kind") == "ConfigMap" else None
        if recipe is not None and recipe.digest == revision and is_reference(recipe.model):
            found[revision] = recipe
    return found


def _recipe(text: str) -> RevisionSpec | None:
    try:
        return RevisionSpec.model_validate_json(text)
    except ValidationError:
        return None


def _belongs_to_a_revision(raw: Raw) -> bool:
    return raw.get("kind") in _OF_A_REVISION and bool(label_of(raw, REVISION_LABEL)) and not _is_deleted(raw)


def _object(raw: Raw) -> RevisionObject:
    return RevisionObject(
        revision=label_of(raw, REVISION_LABEL),
        api_version=text_at(raw, "apiVersion"),
        kind=text_at(raw, "kind"),
        name=text_at(raw, "metadata", "name"),
        uid=text_at(raw, "metadata", "uid"),
        resource_version=text_at(raw, "metadata", "resourceVersion"),
    )
