"""All that `kubectl get pods --watch` shows of a namespace: pods are gone quickly, and tests want their last words."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster_fixtures import Kubernetes
from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster
from killed_at_the_end import started

Pod = dict[str, Any]


class PodHistory:
    """Every state that the pods of one namespace were seen in, oldest first."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def states(self) -> list[Pod]:
        """All states seen until now; one that is still being written is left for the next look."""
        decoder, text, place = json.JSONDecoder(), self._file.read_text(), 0
        found: list[Pod] = []
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            try:
                pod, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                return found
            found.append(pod)

    def exit_codes(self, training: str) -> dict[str, int]:
        """Exit code of the trainer by pod UID, of every pod of this training that was seen to end."""
        codes = {}
        for pod in self.of_training(training):
            for container in pod.get("status", {}).get("containerStatuses", []):
                if ended := container.get("state", {}).get("terminated"):
                    codes[pod["metadata"]["uid"]] = ended["exitCode"]
        return codes

    def of_training(self, training: str) -> list[Pod]:
        """All states of the pods of one training."""
        label = "diffusion.dev/training"
        return [pod for pod in self.states() if pod["metadata"].get("labels", {}).get(label) == training]


@contextmanager
def pod_history(kubernetes: Kubernetes, namespace: str, folder: Path) -> Iterator[PodHistory]:
    """Watch until left."""
    if isinstance(kubernetes, Cluster):
        program = str(kubernetes.options.programs["kubectl"])
    else:
        program = shutil.which("kubectl") or str(ensure(["kubectl"], print)["kubectl"])
    file = folder / "pods.json"
    command = [program, "get", "pods", "--namespace", namespace, "--watch", "--output", "json"]
    environment = os.environ | {"KUBECONFIG": str(kubernetes.kubeconfig)}
    with file.open("wb") as stream, started(command, stdout=stream, env=environment):
        yield PodHistory(file)
