"""A namespace in which a dataset becomes an image, as the end-to-end tests watch and disturb it."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from cluster_fixtures import Kubernetes, apply, fresh_namespace, get, wait_for
from cluster_objects import output_of
from deadline import wait_until
from line_objects import ASK_ALL, KEY, VISIT, client_pod, keys_secret, placed
from line_watch import PodHistory, pod_history

T = TypeVar("T")
Status = dict[str, Any]
MODEL = "digits"
"""The training and the service that all end-to-end tests share."""
ENOUGH_STEPS, MORE_STEPS = 400, 400
"""A run that a test still needs is given MORE_STEPS when fewer than ENOUGH_STEPS are left to its target.

A status tells progress every 10 s, in which a quick machine makes 300 steps.
"""


def condition(status: Status, kind: str) -> dict[str, Any]:
    """One condition; empty where there is none."""
    return next((found for found in status.get("conditions", []) if found["type"] == kind), {})


def is_true(status: Status, kind: str) -> bool:
    """Whether a condition is True."""
    return condition(status, kind).get("status") == "True"


def step_of(status: Status) -> int:
    """The step that a training is known to have reached."""
    return int(status.get("progress", {}).get("step", 0))


@dataclass
class Line:
    """One namespace, with the short words that tests use of it. All waiting has a deadline."""

    kubernetes: Kubernetes
    namespace: str
    pods: PodHistory
    visitors: set[str] = field(default_factory=set)

    def apply(self, name: str, manifest: dict[str, Any]) -> None:
        """Apply a manifest under this name; AssertionError with kubectl's words where it is refused."""
        apply(self.kubernetes, placed(manifest, name, self.namespace))

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints; AssertionError with its error."""
        done = self.kubernetes.kubectl("--namespace", self.namespace, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def patch(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Merge a patch into a spec."""
        self.kubectl("patch", kind, name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object, or {}."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def status(self, name: str, kind: str = "dt") -> Status:
        """The status of a custom resource now."""
        status: Status = self.get(kind, name).get("status", {})
        return status

    def wait(
        self, name: str, question: Callable[[Status], Any], seconds: float, what: str, *, kind: str = "dt",
        keep_going: bool = False,
    ) -> Status:  # fmt: skip
        """Wait until `question` holds for a status, and return that status.

        `keep_going`: the training's target is raised before it is reached, because the test still needs the run.
        """

        def look() -> Status | None:
            status = self.status(name, kind)
            if keep_going:
                self._keep_going(name, status)
            return status if question(status) else None

        try:
            found = wait_for(look, seconds, f"{kind}/{name}: {what}")
        except AssertionError as error:
            told = self.kubernetes.kubectl("get", "pods,events", "--namespace", self.namespace).stdout
            raise AssertionError(f"{error}\n{json.dumps(self.status(name, kind), indent=1)}\n{told}") from error
        assert found is not None
        return found

    def _keep_going(self, name: str, status: Status) -> None:
        assert status.get("phase") not in ("Succeeded", "Failed"), status.get("message")
        target = status.get("progress", {}).get("targetSteps", 10**9)
        if step_of(status) > target - ENOUGH_STEPS:
            self.patch("dt", name, {"training": {"targetSteps": target + MORE_STEPS}})

    def wait_ready(self, name: str, seconds: float = 240) -> Status:
        """Wait until a DiffusionService is ready."""
        return self.wait(name, lambda status: is_true(status, "Ready"), seconds, "Ready", kind="dsv")

    def program(self, code: str, claim: str | None = None, **variables: str) -> str:
        """Run Python in a pod and return what it printed."""
        name = f"client-{uuid.uuid4().hex[:6]}"
        apply(self.kubernetes, client_pod(self.namespace, name, code, claim, **variables))
        return output_of(self.kubernetes, self.namespace, name)

    def ask(self, service: str, *questions: tuple[dict[str, Any], str]) -> list[dict[str, Any]]:
        """Ask the router for images, from a pod: each question is a body and a key; what was answered to each."""
        url = self.status(service, "dsv")["url"]
        lines = self.program(ASK_ALL, URL=url, KEY=KEY, QUESTIONS=json.dumps(questions)).splitlines()
        return [json.loads(line) for line in lines]

    def start_visitor(self, service: str) -> None:
        """Have a pod that asks for the same image twice a second from now on; starts none where one runs."""
        if service not in self.visitors:
            url = self.status(service, "dsv")["url"]
            apply(self.kubernetes, client_pod(self.namespace, f"visitor-{service}", VISIT, URL=url, KEY=KEY))
            self.visitors.add(service)
        self.more_visits(service)

    def visits(self, service: str) -> list[dict[str, Any]]:
        """All that the visitor was answered, from its very first request on."""
        done = self.kubernetes.kubectl("logs", f"visitor-{service}", "--namespace", self.namespace)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def more_visits(self, service: str, more: int = 3) -> list[dict[str, Any]]:
        """Wait until the visitor has come `more` times from now on, and return what it was answered these times."""
        before = len(self.visits(service))
        wait_for(lambda: len(self.visits(service)) >= before + more, 60, f"{more} more visits of {service}")
        return self.visits(service)[before:]

    def living_pods(self, training: str) -> list[dict[str, Any]]:
        """Worker pods that have not ended."""
        selector = f"--selector=diffusion.dev/training={training}"
        pods = get(self.kubernetes, "pods", "--namespace", self.namespace, selector)["items"]
        return [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]

    def children(self, name: str) -> list[str]:
        """Everything that an operator made for the custom resources of this name."""
        kinds = "jobs,services,configmaps,persistentvolumeclaims,poddisruptionbudgets,deployments,pods"
        selector = f"app.kubernetes.io/managed-by=diffusion-operator,app.kubernetes.io/instance={name}"
        return self.kubectl("get", kinds, "--selector", selector, "--output=name").split()


@contextmanager
def line_in_a_namespace(kubernetes: Kubernetes, folder: Path) -> Iterator[Line]:
    """A fresh namespace that enforces the Pod Security level `restricted`, with the Secret of API keys."""
    with fresh_namespace(kubernetes) as namespace:
        label = "pod-security.kubernetes.io/enforce=restricted"
        assert kubernetes.kubectl("label", "namespace", namespace, label).returncode == 0
        apply(kubernetes, keys_secret(namespace))
        with pod_history(kubernetes, namespace, folder) as pods:
            yield Line(kubernetes, namespace, pods)


def kill_processes_with(*variables: str) -> None:
    """End by SIGKILL all processes of this machine whose environment holds one of these `NAME=value`."""
    found = [process for process in psutil.process_iter() if not _environment(process).isdisjoint(variables)]
    assert found, f"no process has one of {variables} in its environment"
    for process in found:
        process.kill()
    wait_until(lambda: not any(process.is_running() for process in found), 10, "their end")


def _environment(process: psutil.Process) -> set[str]:
    try:
        return {f"{name}={value}" for name, value in process.environ().items()}
    except (psutil.Error, OSError):
        return set()
