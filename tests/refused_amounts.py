"""Amounts of resources that the API server and the operator refuse, and words of the API server's about each."""

from typing import Any

from custom_resource_tables import service, training

AMOUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "a request above its limit": (
        training(spec__workers__resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        "a request must not be above its limit",
    ),
    "a device without a limit": (
        training(spec__workers__resources={"requests": {"nvidia.com/gpu": 1}}),
        "set the same number in limits",
    ),
    "half a device": (
        service(spec__resources={"limits": {"nvidia.com/gpu": "0.5"}}),
        "devices such as nvidia.com/gpu are given out whole",
    ),
    "a resource that nobody knows": (
        training(spec__workers__resources={"limits": {"gpu": 1}}),
        "or a device with its vendor such as nvidia.com/gpu",
    ),
    "a device without a vendor": (training(spec__workers__resources={"limits": {"/gpu": 1}}), "correct the name"),
    "a device without a name": (service(spec__resources={"limits": {"nvidia.com/": 1}}), "correct the name"),
    "huge pages of no size": (training(spec__workers__resources={"limits": {"hugepages-": "2Mi"}}), "correct the name"),
    "less than nothing": (training(spec__workers__resources={"limits": {"cpu": -1}}), "limits.cpu"),
    "a claim of less than nothing": (training(spec__checkpoint__storage={"claim": {"size": -1}}), "claim.size"),
    "an amount beyond all numbers": (training(spec__workers__resources={"limits": {"cpu": "1e400"}}), "limits[cpu]"),
    "more processes than devices": (
        training(spec__workers={"processesPerWorker": 2, "resources": {"limits": {"nvidia.com/gpu": 1}}}),
        "must not be above the GPUs in resources.limits",
    ),
}
