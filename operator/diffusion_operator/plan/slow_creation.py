"""Containers that their node has been making for long: nothing says why in the pod, only in its events.

A missing ConfigMap or Secret of a volume looks like this, and so does a large image that is still being pulled. The
sentence names both, and what the template asks for, so that one look shows which.
"""

from datetime import datetime

from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left

SLOW_SECONDS = 60
"""How long a node may make a container before that is said."""


def seconds_until_slow(creating_since: str, now: datetime) -> float:
    """Seconds until a container that is being made counts as slow; 0 where it does already, or nobody makes one."""
    return seconds_left(from_timestamp(creating_since), SLOW_SECONDS, now)


def is_slow(creating_since: str, now: datetime) -> bool:
    """Whether a container has been in the making for SLOW_SECONDS."""
    return bool(creating_since) and seconds_until_slow(creating_since, now) == 0


def slow_sentence(pod: str, template: PodTemplate) -> str:
    """What to say about a pod whose container is slow to come."""
    names = _needed(template)
    needed = f" ({' and '.join(names)} must exist)" if names else ""
    return (
        f"the container of pod {pod} is not made yet: its image is still being pulled, or a volume cannot be mounted"
        f"{needed}; `kubectl describe pod {pod}` shows which"
    )


def _needed(template: PodTemplate) -> list[str]:
    """The ConfigMaps and Secrets without which the template's volumes cannot be mounted."""
    maps = [v.config_map.name for v in template.volumes if v.config_map and not v.config_map.optional]
    secrets = [v.secret.secret_name for v in template.volumes if v.secret and not v.secret.optional]
    return [
        *(f"ConfigMap {name}" for name in dict.fromkeys(maps)),
        *(f"Secret {name}" for name in dict.fromkeys(secrets)),
    ]
