"""Times as a status holds them (RFC 3339, UTC), and what is left of a wait that began at one."""

from datetime import UTC, datetime


def to_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes `metav1.Time`. `moment` must know its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_timestamp(text: object) -> datetime | None:
    """The moment that an RFC 3339 text names; None where there is none or it cannot be read.

    Neither can a year that no cluster has seen: `metav1.Time` writes "never" as year 1, and a delay after the year 9999
    is beyond the calendar.
    """
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or not 1970 < moment.year < 9000:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_left(since: datetime | None, seconds: float, now: datetime) -> float:
    """How much of the `seconds` after `since` is left, and never more than all; 0 where nobody knows since when.

    A `since` that lies further ahead than they last was written before a clock was put back, perhaps by hours: it says
    nothing any more, and nobody waits for it. One that is a little ahead comes of another machine's clock.
    """
    if since is None:
        return 0.0
    left = seconds - (now - since).total_seconds()
    return min(left, seconds) if 0 < left <= 2 * seconds else 0.0
