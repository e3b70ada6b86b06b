"""Exit codes of workload containers, and what the operator does about each.

The numbers follow sysexits.h where it has one: 64 is EX_USAGE and 75 is EX_TEMPFAIL. The Job's podFailurePolicy
and the plan both read them from here.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a workload container ended. Every other code is a crash and counts against `failurePolicy.maxRestarts`."""

    TARGET_COMMITTED = 0
    """The target step stands in a committed checkpoint, and is published where that was asked for."""

    CONFIGURATION_REFUSED = 64
    """The run configuration cannot work as it is written: the run fails, and is not tried again."""

    RUN_AGAIN = 75
    """State is committed (or lives on in the other workers); the pod leaves and may be replaced."""

    DO_NOT_RETRY = 93
    """The run cannot succeed for a reason other than its configuration: it fails, and is not tried again."""
