"""What a test of the whole line wants of the pods that it watched: they are gone quickly, and had last words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster_fixtures import Kubernetes
from object_history import Object, ObjectHistory, object_history


class PodHistory:
    """Every state that the pods of one namespace were seen in, oldest first."""

    def __init__(self, seen: ObjectHistory) -> None:
        self._seen = seen

    def exit_codes(self, training: str) -> dict[str, int]:
        """Exit code of the trainer by pod UID, of every pod of this training that was seen to end."""
        codes = {}
        for pod in self.of_training(training):
            for container in pod.get("status", {}).get("containerStatuses", []):
                if ended := container.get("state", {}).get("terminated"):
                    codes[pod["metadata"]["uid"]] = ended["exitCode"]
        return codes

    def of_training(self, training: str) -> list[Object]:
        """All states of the pods of one training."""
        label = "diffusion.dev/training"
        return [pod for pod in self._seen.states() if pod["metadata"].get("labels", {}).get(label) == training]


@contextmanager
def pod_history(kubernetes: Kubernetes, namespace: str, folder: Path) -> Iterator[PodHistory]:
    """Watch until left."""
    with object_history(kubernetes, folder / "pods.json", "pods", "--namespace", namespace, empty=True) as seen:
        yield PodHistory(seen)
