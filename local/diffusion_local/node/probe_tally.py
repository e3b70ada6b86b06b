"""Thresholds of probes: how single answers become a verdict. Pure."""

from dataclasses import dataclass

from diffusion_local.node.configuration import Manifest

DEFAULT_PERIOD, DEFAULT_TIMEOUT, DEFAULT_FAILURES, DEFAULT_SUCCESSES = 10.0, 1.0, 3, 1


@dataclass(frozen=True)
class Tally:
    """Equal answers in a row, and the verdict so far (None: not yet)."""

    verdict: bool | None = None
    answer: bool | None = None
    in_a_row: int = 0


def count(probe: Manifest, before: Tally, answer: bool) -> Tally:
    """Count one more answer: the verdict turns when enough equal answers came in a row."""
    in_a_row = before.in_a_row + 1 if answer == before.answer else 1
    needed = (probe.get("successThreshold") or DEFAULT_SUCCESSES) if answer else threshold(probe)
    verdict = answer if in_a_row >= needed else before.verdict
    return Tally(verdict, answer, in_a_row)


def threshold(probe: Manifest) -> int:
    """Failures in a row that count as a failure."""
    return int(probe.get("failureThreshold") or DEFAULT_FAILURES)


def period(probe: Manifest) -> float:
    """Seconds between two answers."""
    return float(probe.get("periodSeconds") or DEFAULT_PERIOD)


def timeout(probe: Manifest) -> float:
    """Seconds that one answer may take."""
    return float(probe.get("timeoutSeconds") or DEFAULT_TIMEOUT)


def port_number(port: int | str, container: Manifest) -> int:
    """A port by number or by its name in the container; ValueError for a name that it does not have."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ValueError(f"container {container['name']} has no port named {port!r}")
