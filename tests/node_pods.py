"""Pods for the tests of nodes, and what kubectl says about them. They run on any cluster: two public images only."""

import base64
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cluster_fixtures import Kubernetes, apply, get, wait_for
from cluster_objects import PYTHON_IMAGE
from object_history import ObjectHistory, object_history

SHELL_IMAGE = "busybox:1.37"
PATIENCE = 120.0
"""Seconds: a real cluster pulls images first."""
ENDLESS_GRACE = 3600
"""Seconds of grace that no test waits for."""
PROMPT = {"periodSeconds": 1, "timeoutSeconds": 60}
"""A probe that is asked often, and whose answer may take its time on a busy machine."""


def shell(script: str, name: str = "main", **fields: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"name": name, "image": SHELL_IMAGE, "command": ["sh", "-c", script], **fields}


def python(program: str, name: str = "main", **fields: Any) -> dict[str, Any]:
    """A container that runs a Python program."""
    return {"name": name, "image": PYTHON_IMAGE, "command": ["python3", "-u", "-c", program], **fields}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod that is not restarted unless `spec` says so, with a short grace."""
    defaults = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**defaults, "containers": list(containers), **spec},
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    """A Secret of texts."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    """A volumeMount."""
    return {"name": name, "mountPath": path, **fields}


class Pods:
    """One namespace of a cluster, seen through kubectl."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects in the namespace."""
        apply(
            self.kubernetes,
            *({**item, "metadata": {**item["metadata"], "namespace": self.namespace}} for item in objects),
        )

    def get(self, name: str, kind: str = "pod") -> dict[str, Any]:
        """One object as it is now."""
        return get(self.kubernetes, kind, name, "-n", self.namespace)

    def main(self, name: str) -> dict[str, Any]:
        """The status of the first container; empty when there is none yet."""
        statuses = self.get(name)["status"].get("containerStatuses") or [{}]
        first: dict[str, Any] = statuses[0]
        return first

    def wait_phase(self, name: str, *phases: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The pod, once its phase is one of `phases`."""

        def there() -> dict[str, Any] | None:
            found = self.get(name)
            return found if found["status"].get("phase") in phases else None

        found = wait_for(there, seconds, f"pod {name} is {' or '.join(phases)}")
        assert found is not None
        return found

    def wait_waiting(self, name: str, reason: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The status of the first container, once it waits for `reason`."""

        def there() -> dict[str, Any] | None:
            found = self.main(name)
            return found if ((found.get("state") or {}).get("waiting") or {}).get("reason") == reason else None

        found = wait_for(there, seconds, f"the container of {name} waits with {reason}")
        assert found is not None
        return found

    def run(self, *args: str) -> str:
        """What `kubectl ARGS` prints in the namespace; AssertionError when it fails."""
        done = self.kubernetes.kubectl("-n", self.namespace, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def logs(self, name: str, *args: str) -> str:
        """The log of a pod."""
        return self.run("logs", name, *args)

    def logs_so_far(self, name: str) -> str:
        """The log of a pod; empty while there is none."""
        done = self.kubernetes.kubectl("-n", self.namespace, "logs", name)
        return done.stdout if done.returncode == 0 else ""

    def wait_log(self, name: str, text: str, seconds: float = PATIENCE) -> str:
        """The log of a pod, once it holds `text`."""

        def there() -> str:
            log = self.logs_so_far(name)
            return log if text in log else ""

        return wait_for(there, seconds, f"{text!r} is in the log of {name}")

    def exists(self, name: str, kind: str = "pod") -> bool:
        """Whether the object is still in the API."""
        return self.kubernetes.kubectl("-n", self.namespace, "get", kind, name).returncode == 0

    def all_events(self, name: str) -> list[dict[str, Any]]:
        """Every event about a pod."""
        about = ("events", "-n", self.namespace, "--field-selector", f"involvedObject.name={name}")
        return list(get(self.kubernetes, *about)["items"])

    def events(self, name: str) -> dict[str, dict[str, Any]]:
        """The newest event about a pod for each reason."""
        return {event["reason"]: event for event in self.all_events(name)}

    def told(self, name: str) -> list[str]:
        """The messages of every event about a pod."""
        return [event["message"] for event in self.all_events(name)]

    def delete(self, name: str) -> None:
        """Delete a pod and wait until it is gone."""
        self.run("delete", "pod", name, "--wait=false")
        wait_for(lambda: not self.exists(name), PATIENCE, f"pod {name} is gone")

    def history(self, folder: Path) -> AbstractContextManager[ObjectHistory]:
        """All that is seen of the namespace's pods until left."""
        return object_history(self.kubernetes, folder / "pods.json", "pods", "-n", self.namespace, empty=True)

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> None:
        """Merge a change into an object."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change))


def terminated(status: dict[str, Any]) -> dict[str, Any]:
    """The terminated state of a container status."""
    ended: dict[str, Any] = status["state"]["terminated"]
    return ended


def conditions(found: dict[str, Any]) -> dict[str, str]:
    """The conditions of an object: type to status."""
    return {entry["type"]: entry["status"] for entry in found["status"].get("conditions") or []}
