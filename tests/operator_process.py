"""`diffusion-operator run` as a process of its own against a cluster's API server."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster_fixtures import Kubernetes
from deadline import wait_until

START_SECONDS = 60


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def fetch(url: str, token: str = "") -> tuple[int, str]:
    """Code and text of a GET; 0 where nobody answers. Certificates are not checked: that is another test's."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=5, context=trusting) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@dataclass
class OperatorProcess:
    """A running operator and its ports on this machine."""

    process: subprocess.Popen[bytes]
    log: Path
    health: int
    metrics: int
    agents: int

    def says(self, path: str = "readyz") -> tuple[int, str]:
        """The answer of the health port."""
        return fetch(f"http://127.0.0.1:{self.health}/{path}")

    def leads(self) -> bool:
        """Whether it is the leader and has synced."""
        return self.says() == (200, "leader\n")

    def metric(self, start: str) -> float:
        """The sum of all series whose line begins so."""
        text = fetch(f"http://127.0.0.1:{self.metrics}/metrics")[1]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))

    def writes(self, cluster: Kubernetes) -> float:
        """How many requests other than reads it has made to the API server, its Lease not counted.

        Its PUTs are those of the Lease and of statuses; the API server tells them apart.
        """
        verbs = ("POST", "PATCH", "DELETE")
        made = sum(self.metric(f'diffusion_operator_api_seconds_count{{verb="{verb}"}}') for verb in verbs)
        return made + status_writes(cluster)

    def kill(self) -> None:
        """SIGKILL: it gets to say nothing."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def text(self) -> str:
        """What it logged."""
        return self.log.read_text()


@contextlib.contextmanager
def operator(
    cluster: Kubernetes, *options: str, home: str = "default", plain: bool = True
) -> Iterator[OperatorProcess]:
    """Start one that lives in the namespace `home`; it is killed at the end, if it still runs."""
    health, metrics, agents = free_port(), free_port(), free_port()
    command = [
        *(sys.executable, "-m", "diffusion_operator.cli.operator_command", "run", "--namespace", home),
        *("--kubeconfig", str(cluster.kubeconfig), "--listen-host", "127.0.0.1"),
        *("--health-port", str(health), "--metrics-port", str(metrics), "--agent-port", str(agents)),
        *("--agent-url", f"https://localhost:{agents}", *(["--metrics-plain"] if plain else []), *options),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DIFFUSION_", "POD_"))}
    with tempfile.TemporaryDirectory(prefix="operator-test-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        started = OperatorProcess(process, log, health, metrics, agents)
        try:
            wait_until(lambda: started.says("healthz")[0] == 200 or process.poll() is not None, START_SECONDS, "health")
            assert process.poll() is None, started.text()
            yield started
        finally:
            if process.poll() is None:
                started.kill()


def status_writes(cluster: Kubernetes) -> float:
    """How many PUTs of a status of one of the two kinds the API server has answered."""
    done = cluster.kubectl("get", "--raw", "/metrics")
    assert done.returncode == 0, done.stderr
    series = re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", done.stdout, re.MULTILINE)
    wanted = ('group="diffusion.dev"', 'subresource="status"', 'verb="PUT"')
    return sum(float(value) for labels, value in series if all(label in labels for label in wanted))


def lease_holder(cluster: Kubernetes, home: str = "default") -> str:
    """Who holds the operator's Lease; "" is nobody."""
    done = cluster.kubectl("get", "lease", "diffusion-operator", "-n", home, "-o", "json")
    return str(json.loads(done.stdout)["spec"].get("holderIdentity", "")) if done.returncode == 0 else ""
