"""Small pods and Jobs for tests of clusters: each runs one Python program, on real nodes and on ours alike."""

from typing import Any

from cluster_fixtures import Kubernetes, get, wait_for

PYTHON_IMAGE = "python:3.11-slim"
POD_SECONDS = 120
"""A real cluster pulls images first."""


def python_pod(namespace: str, name: str, program: str, **spec: Any) -> dict[str, Any]:
    """A pod that runs `program` once; `spec` fields are added as they are."""
    labels = spec.pop("labels", {"app": name})
    container = {
        "name": "main",
        "image": spec.pop("image", PYTHON_IMAGE),
        "command": ["python3", "-u", "-c", program],
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **spec,
        },
    }


def web_pod(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A pod that answers every HTTP request on port 8000 of all its addresses with its name."""
    program = f"""
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{name}")
http.server.HTTPServer(("", 8000), Answer).serve_forever()
"""
    probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    ports = [{"name": "http", "containerPort": 8000}]
    return python_pod(namespace, name, program, container={"readinessProbe": probe, "ports": ports}, **spec)


def phase(kubernetes: Kubernetes, namespace: str, name: str) -> str:
    """The pod's phase now."""
    return str(get(kubernetes, "pod", name, "-n", namespace)["status"].get("phase", ""))


def output_of(kubernetes: Kubernetes, namespace: str, name: str) -> str:
    """Wait until the pod has succeeded and return what it printed; AssertionError with its log when it failed."""
    ended = wait_for(
        lambda: (now := phase(kubernetes, namespace, name)) in ("Succeeded", "Failed") and now,
        POD_SECONDS,
        f"the end of pod {name}",
    )
    log = kubernetes.kubectl("logs", name, "-n", namespace).stdout
    assert ended == "Succeeded", log
    return log


def wait_ready(kubernetes: Kubernetes, namespace: str, *names: str) -> None:
    """Wait until all the pods are ready."""
    for name in names:
        done = kubernetes.kubectl(
            "wait", "--for=condition=Ready", f"pod/{name}", "-n", namespace, f"--timeout={POD_SECONDS}s"
        )
        assert done.returncode == 0, done.stderr + kubernetes.kubectl("describe", "pod", name, "-n", namespace).stdout
