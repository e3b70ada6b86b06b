"""A revision: everything that changes pixels or containers, and nothing else.

The operator writes it as `revision.json` beside `engine.json` into the revision's ConfigMap. From there an older
revision can be built again, scaled and repaired while the spec already asks for its successor.
"""

import hashlib
import json

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.model_reference import ModelReference, parse_model_reference
from diffusion_contract.serving_config import SamplingSpec
from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.api.resources import ResourcesSpec

REVISION_KEY = "revision.json"
"""Key of the revision's ConfigMap under which it stands."""

REVISION_DIGITS = 10
"""Hex digits of a revision's name."""


class RevisionSpec(FrozenModel):
    """What the engine pods of one revision are made from. `model` is a reference with a digest."""

    model: str
    image: str
    resources: ResourcesSpec = ResourcesSpec()
    template: PodTemplate = PodTemplate()
    sampling: SamplingSpec = SamplingSpec()
    max_batch: int = 16

    @property
    def digest(self) -> str:
        """The revision's name: the hash of all of it, ten hex digits.

        Defaults are left out, so that a field that a later version of the operator adds makes no new revision.
        """
        content = json.dumps(self.without_defaults(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:REVISION_DIGITS]

    @property
    def reference(self) -> ModelReference:
        """`model`, parsed; raises ValueError where it is not one."""
        return parse_model_reference(self.model)
