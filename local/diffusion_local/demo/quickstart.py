"""The chapters of the demo, in their order. Each can be repeated: what stands already is used as it is."""

import hashlib
import json
import secrets
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_evaluator.judge import train_digit_judge
from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.serving_scene import ImagesClient, write_sheet
from diffusion_local.demo.training_scene import TrainingScene, conditions_of

REPOSITORY = Path(__file__).resolve().parents[3]
NAMESPACE = "demo"
SYSTEM_NAMESPACE = "diffusion-system"
NAME = "digits"
NOTICE_SECONDS = 15
DIGITS = range(10)
SAMPLES_OF_EACH = 10


@dataclass
class Quickstart:
    """Plays `examples/quickstart.yaml` on the embedded cluster called `cluster_name`."""

    narration: Narration
    cluster_name: str
    output: Path

    def play(self) -> None:
        """Play every chapter; raises CommandFailed or LocalClusterError with a sentence when one fails."""
        self.bring_up_the_cluster()
        self.install_the_chart()
        self.apply_the_quickstart()
        self.watch_the_training()
        self.draw_the_digits()

    @cached_property
    def cluster(self) -> Cluster:
        """The running cluster."""
        return Cluster.find(self.cluster_name)

    @cached_property
    def commands(self) -> ClusterCommands:
        """Both tools with the cluster's kubeconfig."""
        programs = ensure(["kubectl", "helm"], self.narration.explain)
        return ClusterCommands(programs["kubectl"], programs["helm"], self.cluster.kubeconfig)

    def bring_up_the_cluster(self) -> None:
        """Start the cluster where it is not up, with one node on demand, and see that there is one spot node."""
        command = [
            sys.executable,
            "-m",
            "diffusion_local",
            "up",
            "--name",
            self.cluster_name,
            "--nodes",
            "1",
            "--spot",
            "1",
        ]
        if subprocess.run(command, check=False).returncode:
            raise CommandFailed("the embedded cluster did not come up (see above)")
        if not self._spot_nodes():
            self.cluster.add_node(spot=True)
        version = json.loads(self.commands.kubectl("version", "--output", "json"))["serverVersion"]["gitVersion"]
        self.narration.tell(f"Cluster up: Kubernetes {version}, one node on demand, one spot node.")

    def _spot_nodes(self) -> list[str]:
        listing = self.commands.kubectl(
            *("get", "nodes", "--selector", "karpenter.sh/capacity-type=spot", "--output", "name")
        )
        return [line.removeprefix("node/") for line in listing.split()]

    def install_the_chart(self) -> None:
        """Install the operator with Helm, as on any cluster."""
        with self.narration.waiting_for("helm upgrade --install diffusion-operator"):
            self.commands.helm(
                *("upgrade", "--install", "diffusion-operator", str(REPOSITORY / "charts" / "diffusion-operator")),
                *("--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"),
            )
        self.narration.tell("Operator installed from charts/diffusion-operator.")

    def apply_the_quickstart(self) -> None:
        """Apply the example in its own namespace, after a clean-up of what an earlier demo left there."""
        if self.commands.get("namespace", NAMESPACE, NAMESPACE):
            with self.narration.waiting_for("removing what the last demo left"):
                self.commands.kubectl("delete", "namespace", NAMESPACE, timeout=120)
        self.commands.kubectl("create", "namespace", NAMESPACE)
        self.commands.kubectl("apply", "--filename", "-", stdin=json.dumps(self._keys_secret()))
        example = REPOSITORY / "examples" / "quickstart.yaml"
        self.commands.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(example))
        self.narration.tell("examples/quickstart.yaml applied: one DiffusionTraining, one DiffusionService.")

    @cached_property
    def api_key(self) -> str:
        """An API key for this demo; kept in a file of the cluster's folder that only this user can read."""
        file = self.cluster.folder.root / "demo-api-key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(f"dk-{secrets.token_urlsafe(24)}")
        return file.read_text()

    def _keys_secret(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.api_key.encode()).hexdigest()
        metadata = {"name": f"{NAME}-keys", "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"demo": f"sha256:{digest}"}}

    def watch_the_training(self) -> None:
        """Follow the run; its spot node is taken away in the middle, and replaced."""
        TrainingScene(
            commands=self.commands,
            narration=self.narration,
            name=NAME,
            namespace=NAMESPACE,
            preempt=lambda: self.cluster.preempt_node(self._spot_nodes()[0], NOTICE_SECONDS),
            add_spot_node=self._add_spot_node,
        ).play(seconds=600)

    def _add_spot_node(self) -> None:
        self.cluster.add_node(spot=True)

    def draw_the_digits(self) -> None:
        """Wait for the service, draw every digit, and ask the judge."""
        with self.narration.waiting_for("the service takes the model over"):
            self.commands.wait_for("the DiffusionService is ready", self._service_is_ready, seconds=180)
        client = ImagesClient(self.cluster.router, self.api_key)
        self.narration.tell(f"Service ready at {self.cluster.router}.")
        labels = [digit for _ in range(SAMPLES_OF_EACH) for digit in DIGITS]
        before = self.narration.seconds
        pictures = client.generate_all(labels)
        seconds = self.narration.seconds - before
        path = self.output / "digits.png"
        write_sheet(pictures[: 2 * len(DIGITS)], len(DIGITS), path)
        self.narration.tell(f"{len(pictures)} digits drawn in {seconds:.1f} s; two of each in [green]{path}[/].")
        judge = train_digit_judge()
        share = judge.share_recognised(np.stack(pictures), labels)
        self.narration.tell(
            f"A judge that knows {judge.held_out_accuracy:.1%} of held-out real digits recognises "
            f"[green]{share:.1%}[/] of them as what was asked."
        )

    def _service_is_ready(self) -> bool:
        status = self.commands.get("diffusionservice", NAME, NAMESPACE).get("status", {})
        return conditions_of(status).get("Ready", {}).get("status") == "True"

    def say_what_next(self, stop_command: str) -> None:
        """Print what to type next; the cluster stays up."""
        lines = (
            "",
            "The cluster is up. Look around:",
            f"  export KUBECONFIG={self.cluster.kubeconfig}",
            f"  kubectl --namespace {NAMESPACE} get diffusiontrainings,diffusionservices,pods",
            f"  .venv/bin/kubectl-diffusion describe {NAME} --namespace {NAMESPACE}",
            f"  curl --silent {self.cluster.router}/v1/images/generations \\",
            f'    --header "Authorization: Bearer $(cat {self.cluster.folder.root}/demo-api-key)" \\',
            """    --json '{"label": 7, "seed": 1}'""",
            f"Stop it: {stop_command}",
        )
        for line in lines:
            self.narration.console.print(line, markup=False)

    def stop(self) -> None:
        """Stop the cluster and everything in it."""
        self.cluster.stop()
        self.narration.tell("Cluster stopped.")
