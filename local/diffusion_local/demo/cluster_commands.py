"""kubectl and helm with the cluster's kubeconfig, and the JSON that they answer."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNS_OF_AN_END = ("refused", "reset by peer", "EOF", "unreachable")
END_SECONDS = 20.0


class CommandFailed(RuntimeError):
    """A chapter of the demo failed; the message is one sentence that says how."""


@dataclass(frozen=True)
class ClusterCommands:
    """The two command-line tools, bound to one kubeconfig."""

    kubectl_binary: Path
    helm_binary: Path
    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl and return what it printed; raises CommandFailed with its error."""
        return self._run(self.kubectl_binary, arguments, stdin, timeout)

    def helm(self, *arguments: str, timeout: float = 180) -> str:
        """Run helm and return what it printed; raises CommandFailed with its error."""
        return self._run(self.helm_binary, arguments, None, timeout)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Return one object, or an empty dict when there is none."""
        text = self.kubectl("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def list(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *arguments, "--output", "json"))["items"]
        return found

    def wait_for(
        self,
        what: str,
        question: Callable[[], Any],
        seconds: float,
        every: float = 0.5,
        sign_of_life: Callable[[], object] = lambda: None,
    ) -> Any:
        """Ask until the answer is true and return it; CommandFailed that names `what` when it stays away.

        It may stay away for `seconds` since `sign_of_life` last returned something new: a slow machine is no failure.
        """
        seen, deadline = sign_of_life(), time.monotonic() + seconds
        while not (answer := question()):
            if (now := sign_of_life()) != seen:
                seen, deadline = now, time.monotonic() + seconds
            if time.monotonic() > deadline:
                raise CommandFailed(f"{what}: not yet, and nothing has moved for {seconds:.0f} s")
            time.sleep(every)
        return answer

    def _run(self, binary: Path, arguments: tuple[str, ...], stdin: str | None, timeout: float) -> str:
        command = [str(binary), "--kubeconfig", str(self.kubeconfig), *arguments]
        said = f"{binary.name} {' '.join(arguments)}"
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{said}: no answer within {timeout:.0f} s") from None
        if done.returncode and self._was_ended(done.stderr):
            raise CommandFailed("somebody has ended the cluster meanwhile")
        if done.returncode:
            raise CommandFailed(f"{said}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _was_ended(self, said: str) -> bool:
        """Whether the cluster was ended under a command; its API server goes first, and its files go last."""
        deadline = time.monotonic() + (END_SECONDS if any(sign in said for sign in SIGNS_OF_AN_END) else 0)
        while self.kubeconfig.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True
