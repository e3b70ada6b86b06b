"""How long to wait before trying again, as a kubelet does it."""

FIRST_SECONDS = 10.0
LONGEST_SECONDS = 300.0
FORGIVEN_AFTER_SECONDS = 2 * LONGEST_SECONDS


def delay_before_restart(failures: int) -> float:
    """Seconds between an exit and the next start after `failures` exits in a row: 0, 10, 20, 40 ... 300."""
    return 0.0 if failures <= 1 else delay_before_pull(failures - 1)


def delay_before_pull(failures: int) -> float:
    """Seconds until an image that could not be had `failures` times in a row is tried again: 10, 20, 40 ... 300."""
    return min(FIRST_SECONDS * 2.0 ** min(failures - 1, 10), LONGEST_SECONDS)


def failures_in_a_row(before: int, ran_seconds: float) -> int:
    """Count one more exit; a container that ran for ten minutes starts from new."""
    return 1 if ran_seconds > FORGIVEN_AFTER_SECONDS else before + 1


def delay_before_retry(attempts: int) -> float:
    """Seconds before the API server or a missing ConfigMap is asked again: 0.2, 0.4 ... 5."""
    return min(0.2 * 2.0 ** min(attempts, 10), 5.0)
