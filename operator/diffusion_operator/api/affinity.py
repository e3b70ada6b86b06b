"""Scheduling rules of a template, as a pod has them. Pod terms see the namespace of the custom resource only."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from diffusion_contract.frozen_model import FrozenModel, Misfit
from diffusion_operator.api.kubernetes_names import LabelKey, LabelValue

Values = Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=32)]
Weight = Annotated[int, Field(ge=1, le=100)]


class LabelRequirement(FrozenModel):
    """A label key, an operator, and the values that it compares with."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Values | None = None

    @model_validator(mode="after")
    def _values_go_with_the_operator(self) -> "LabelRequirement":
        _refuse_misfit_values(self.operator, self.values or ())
        return self


class NodeRequirement(FrozenModel):
    """The same about a node's label, whose value may also be compared as a number."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Values | None = None

    @model_validator(mode="after")
    def _values_go_with_the_operator(self) -> "NodeRequirement":
        _refuse_misfit_values(self.operator, self.values or ())
        return self


def _refuse_misfit_values(operator: str, values: tuple[str, ...]) -> None:
    fewest, most = {"In": (1, 32), "NotIn": (1, 32), "Gt": (1, 1), "Lt": (1, 1)}.get(operator, (0, 0))
    if not fewest <= len(values) <= most:
        raise Misfit(
            "values", "In and NotIn need values, Gt and Lt exactly one, Exists and DoesNotExist none: correct values"
        )


class FieldRequirement(FrozenModel):
    """The name of a node, and whether it is to be this one."""

    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(min_length=1, max_length=1)]


class NodeTerm(FrozenModel):
    """Requirements on a node, all of which must hold."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=16)] | None = None
    match_fields: Annotated[tuple[FieldRequirement, ...], Field(max_length=16)] | None = None


class NodeTerms(FrozenModel):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1, max_length=8)]


class PreferredNodes(FrozenModel):
    """A preference and its weight."""

    weight: Weight
    preference: NodeTerm


class NodeAffinity(FrozenModel):
    """Which nodes the pods need or prefer."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = None
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[tuple[PreferredNodes, ...], Field(max_length=8)] | None
    ) = None


class LabelSelector(FrozenModel):
    """Which pods are meant, by label."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = None
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] | None = None


class PodTerm(FrozenModel):
    """Pods, and the place that is shared with them or not."""

    label_selector: LabelSelector | None = None
    topology_key: LabelKey


class PreferredPods(FrozenModel):
    """A pod term and its weight."""

    weight: Weight
    pod_affinity_term: PodTerm


class PodAffinity(FrozenModel):
    """Pods that these pods want to be near to, or away from."""

    required_during_scheduling_ignored_during_execution: Annotated[tuple[PodTerm, ...], Field(max_length=8)] | None = (
        None
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[tuple[PreferredPods, ...], Field(max_length=8)] | None
    ) = None


class Affinity(FrozenModel):
    """Scheduling rules towards nodes and other pods."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TopologySpreadConstraint(FrozenModel):
    """How evenly the pods spread over a topology; without `labelSelector` over all pods of the same role."""

    max_skew: Annotated[int, Field(ge=1)] = 1
    topology_key: LabelKey
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "DoNotSchedule"
    label_selector: LabelSelector | None = None
