"""The kinds that this operator serves."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.service_kind import SERVICE
from diffusion_operator.plan.training_kind import TRAINING

KINDS: Mapping[str, Kind[Any]] = MappingProxyType({kind.kind: kind for kind in (TRAINING, SERVICE)})
"""By the name of the kind."""
