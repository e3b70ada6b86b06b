"""All that `kubectl get --watch` shows: what is there for a moment only is seen by who has watched, however slowly."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from cluster_fixtures import Kubernetes, wait_for
from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster
from killed_at_the_end import started

Object = dict[str, Any]


class ObjectHistory:
    """Every state that objects were seen in, oldest first."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def events(self) -> list[tuple[str, Object]]:
        """ADDED, MODIFIED or DELETED, and the object; one that is still being written is left for the next look."""
        decoder, text, place = json.JSONDecoder(), self._file.read_text(), 0
        found: list[tuple[str, Object]] = []
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            try:
                event, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                return found
            found.append((event["type"], event["object"]))

    def states(self) -> list[Object]:
        """All states seen until now, the last ones of deleted objects too."""
        return [found for _, found in self.events()]

    def wait_deleted(self) -> None:
        """Return when the newest is the end of an object."""
        wait_for(lambda: self.events()[-1][0] == "DELETED", 60, "the end of what is watched")


def started_kubectl(
    kubernetes: Kubernetes, *args: str, **options: Any
) -> AbstractContextManager["subprocess.Popen[Any]"]:
    """Run `kubectl ARGS` with the options of Popen until left at the latest."""
    if isinstance(kubernetes, Cluster):
        program = str(kubernetes.options.programs["kubectl"])
    else:
        program = shutil.which("kubectl") or str(ensure(["kubectl"], print)["kubectl"])
    environment = os.environ | {"KUBECONFIG": str(kubernetes.kubeconfig)}
    return started([program, *args], env=environment, **options)


@contextmanager
def object_history(kubernetes: Kubernetes, file: Path, *what: str, empty: bool = False) -> Iterator[ObjectHistory]:
    """Watch what `kubectl get WHAT` shows until left, from its first object on unless that may be missing (`empty`)."""
    watch = ("get", *what, "--watch", "--output-watch-events", "--output", "json")
    with file.open("wb") as stream, started_kubectl(kubernetes, *watch, stdout=stream):
        history = ObjectHistory(file)
        if not empty:
            wait_for(history.events, 60, f"the first of {what}")
        yield history
