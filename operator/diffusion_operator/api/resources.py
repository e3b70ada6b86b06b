"""What a container asks of its node: quantities, and the rules by which the API server judges them in a pod."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from diffusion_contract.frozen_model import FrozenModel, Misfit
from diffusion_contract.quantity import QUANTITY_PATTERN, quantity_value
from diffusion_contract.text_form import TextForm
from diffusion_operator.api.kubernetes_names import QUALIFIED_NAME, SUBDOMAIN

GPUS = ("nvidia.com/gpu", "amd.com/gpu")
"""Devices of which each training process needs one of its own."""

_PLAIN = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES = r"^hugepages-[1-9][0-9]*[KMGTPE]i$"
_DEVICE = rf"^{SUBDOMAIN}/{QUALIFIED_NAME}$"


def _integer_as_text(value: object) -> object:
    """Kubernetes writes a quantity as an integer or a string: `cpu: 2` and `cpu: "2"` are the same."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    Field(max_length=32),
    TextForm(
        QUANTITY_PATTERN,
        "a quantity is a number, 0 or more, and a unit of Kubernetes or none, for example 500m, 2 or 20Gi: correct it",
    ),
    BeforeValidator(_integer_as_text),
]
"""A Kubernetes quantity such as `500m`, `2` or `20Gi`."""


def _is_known(name: str) -> bool:
    return name in _PLAIN or re.search(_HUGE_PAGES, name) is not None or re.search(_DEVICE, name) is not None


def _named_and_whole(amounts: dict[str, str]) -> dict[str, str]:
    if not all(map(_is_known, amounts)):
        raise ValueError(
            "a resource is cpu, memory, ephemeral-storage, hugepages-SIZE, or a device with its vendor such as "
            "nvidia.com/gpu: correct the name"
        )
    if any("/" in name and not _is_whole(amount) for name, amount in amounts.items()):
        raise ValueError("devices such as nvidia.com/gpu are given out whole: set a whole number")
    return amounts


def _is_whole(quantity: str) -> bool:
    value = quantity_value(quantity)
    return value is not None and value < 2**63 and value == int(value)


Amounts = Annotated[dict[str, Quantity], Field(max_length=16), AfterValidator(_named_and_whole)]


class ResourcesSpec(FrozenModel):
    """What a container asks of its node, and may use at most (`cpu`, `memory`, `nvidia.com/gpu`, ...)."""

    requests: Amounts = Field(default_factory=dict)
    limits: Amounts = Field(default_factory=dict)

    @model_validator(mode="after")
    def _requests_fit_the_limits(self) -> "ResourcesSpec":
        for name, request in self.requests.items():
            asked, limit = quantity_value(request), quantity_value(self.limits.get(name))
            if asked is not None and limit is not None and asked > limit:
                raise Misfit("requests", "a request must not be above its limit: raise the limit, or lower the request")
            if asked != limit and ("/" in name or name.startswith("hugepages-")):
                raise Misfit(
                    "requests",
                    "devices such as nvidia.com/gpu, and huge pages, are not shared: set the same number in limits",
                )
        return self
