"""Points in time: seconds since the epoch inside the agent, RFC 3339 towards Kubernetes."""

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """To the second, as metav1.Time is written."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """To the microsecond, as metav1.MicroTime is written."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_moment(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
