"""The operator's writes to the API server, from its own metrics and the API server's.

The operator counts its requests by verb. Three kinds of them are no writes of objects for anyone, and are told apart by
what the API server has counted: PUTs of its own Lease (all PUTs that are not of a status), and the reviews by which it
asks who calls (POSTs that store nothing).
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

QUIET_SECONDS, DEADLINE_SECONDS = 5.0, 600.0
SERIES = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
REVIEWS = ("tokenreviews", "subjectaccessreviews")
KINDS = ("diffusiontrainings", "diffusionservices")
VERBS = ("POST", "PATCH", "PUT", "DELETE")


def count_writes(operator: str, api_server: str) -> Counter[str]:
    """Return the writes so far by verb; the arguments are what /metrics of both said. PUT is that of a status."""
    calls: Counter[str] = Counter()
    for labels, value in _series(operator, "diffusion_operator_api_calls_total"):
        if labels["verb"] in ("POST", "PATCH", "DELETE"):
            calls[labels["verb"]] += value
    for labels, value in _series(api_server, "apiserver_request_total"):
        if labels["verb"] == "POST" and labels["resource"] in REVIEWS:
            calls["POST"] -= value
        elif labels["verb"] == "PUT" and labels["resource"] in KINDS and labels["subresource"] == "status":
            calls["PUT"] += value
    return calls


def _series(text: str, metric: str) -> Iterator[tuple[dict[str, str], int]]:
    for name, labels, value in SERIES.findall(text):
        if name == metric:
            yield dict(LABEL.findall(labels)), int(float(value))


def when_quiet(count: Callable[[], Counter[str]]) -> Counter[str]:
    """What `count` says once it has said the same for QUIET_SECONDS; RuntimeError where that never comes."""
    seen, since = count(), time.monotonic()
    deadline = since + DEADLINE_SECONDS
    while time.monotonic() - since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the operator still writes after {DEADLINE_SECONDS:.0f} s")
        time.sleep(1)
        if (now := count()) != seen:
            seen, since = now, time.monotonic()
    return seen


def difference(now: Counter[str], before: Counter[str]) -> Counter[str]:
    """What was written between two counts."""
    return Counter({verb: now[verb] - before[verb] for verb in VERBS})


def told(calls: Counter[str]) -> str:
    """The writes by verb, as words."""
    meanings = {"POST": "POST (events)", "PATCH": "PATCH (apply)", "PUT": "PUT (status)", "DELETE": "DELETE"}
    return ", ".join(f"{calls[verb]} {meanings[verb]}" for verb in VERBS if calls[verb]) or "none"
