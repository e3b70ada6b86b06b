"""Plain log lines on standard error: time, level, who, what."""

import logging
import sys
import time


def start_logging(who: str) -> None:
    """Log INFO and above as one line each, in UTC; `who` names this process."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(f"%(asctime)s.%(msecs)03dZ %(levelname)s {who} %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
