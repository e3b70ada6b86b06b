"""The chapters of the demo, in their order. Each can be repeated: what stands already is used as it is."""

import hashlib
import json
import secrets
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from diffusion_evaluator.judge import train_digit_judge
from diffusion_local.binaries.find import ensure
from diffusion_local.bring_up import bring_up
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.operator_chart import OperatorChart
from diffusion_local.demo.serving_scene import ImagesClient, write_sheet
from diffusion_local.demo.training_scene import NOTICE_SECONDS, TrainingScene, conditions_of
from diffusion_local.demo.worker_nodes import spot_worker_node, usable_nodes
from diffusion_local.node_orders import ON_DEMAND, SPOT
from diffusion_local.options import ForwardTarget
from diffusion_local.state import write_atomically

REPOSITORY = Path(__file__).resolve().parents[3]
NAMESPACE = "demo"
NAME = "digits"
DIGITS = range(10)
SAMPLES_OF_EACH = 10
LEAST_SHARE = 0.9
"""Of the drawn digits, how many a judge must recognise as what was asked."""
SERVICE_STILL_SECONDS = 180.0
DELETION_SECONDS = 300.0
CLUSTER = {"nodes": 1, "spot": 1, "forward": ForwardTarget(namespace=NAMESPACE)}


@dataclass
class Quickstart:
    """Plays `examples/quickstart.yaml` on the embedded cluster called `cluster_name`.

    `owned`: a cluster that it starts dies with this process.
    """

    narration: Narration
    cluster_name: str
    output: Path
    owned: bool = False

    def play(self) -> None:
        """Play every chapter; raises CommandFailed or LocalClusterError with a sentence when one fails."""
        self.bring_up_the_cluster()
        self.install_the_chart()
        self.apply_the_quickstart()
        self.watch_the_training()
        self.draw_the_digits()

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster, joined or started; one that older code runs knows nothing of what this code asks for."""
        return bring_up(self.cluster_name, CLUSTER, CLUSTER, owned=self.owned, renewed=True)

    @cached_property
    def commands(self) -> ClusterCommands:
        """Both tools with the cluster's kubeconfig."""
        programs = ensure(["kubectl", "helm"], self.narration.explain)
        return ClusterCommands(programs["kubectl"], programs["helm"], self.cluster.kubeconfig)

    def bring_up_the_cluster(self) -> None:
        """Start the cluster where it is not up, and see that it has a node of each kind that takes pods."""
        commands = self.commands
        for capacity_type in (ON_DEMAND, SPOT):
            if not usable_nodes(commands.list("nodes"), capacity_type):
                self.cluster.add_node(spot=capacity_type == SPOT)
        version = json.loads(commands.kubectl("version", "--output", "json"))["serverVersion"]["gitVersion"]
        self.narration.tell(f"Cluster up: Kubernetes {escape(version)}, one node on demand, one spot node.")

    def install_the_chart(self) -> None:
        """Install the operator with Helm, as on any cluster."""
        with self.narration.waiting_for("helm upgrade --install diffusion-operator"):
            OperatorChart(self.commands, REPOSITORY).install()
        self.narration.tell("Operator installed from charts/diffusion-operator.")

    def apply_the_quickstart(self) -> None:
        """Apply the example in its own namespace, after a clean-up of what an earlier demo left there."""
        if self.commands.get("namespace", NAMESPACE, NAMESPACE):
            with self.narration.waiting_for("removing what the last demo left"):
                self.commands.kubectl("delete", "namespace", NAMESPACE, timeout=DELETION_SECONDS)
        self.commands.kubectl("create", "namespace", NAMESPACE)
        self.commands.kubectl("apply", "--filename", "-", stdin=json.dumps(self._keys_secret()))
        example = REPOSITORY / "examples" / "quickstart.yaml"
        self.commands.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(example))
        applied = "one DiffusionTraining, one DiffusionService that waits for it"
        self.narration.tell(f"examples/quickstart.yaml applied: {applied}.")

    @cached_property
    def api_key(self) -> str:
        """An API key for this demo; kept in a file of the cluster's folder that only this user can read."""
        file = self.cluster.folder.root / "demo-api-key"
        if not file.exists():
            write_atomically(file, f"dk-{secrets.token_urlsafe(24)}")
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
            spot_node=lambda: spot_worker_node(self.commands.list("pods", "--namespace", NAMESPACE), NAME),
            preempt=lambda node: self.cluster.preempt_node(node, NOTICE_SECONDS, self.narration.explain),
            add_spot_node=lambda: self.cluster.add_node(spot=True),
        ).play()

    def draw_the_digits(self) -> None:
        """Wait for the service, draw every digit, and ask the judge; CommandFailed when it recognises too few."""
        with self.narration.waiting_for("the service takes the model over"):
            self.commands.wait_for(
                "the DiffusionService is ready",
                lambda: self._service_conditions().get("Ready", {}).get("status") == "True",
                SERVICE_STILL_SECONDS,
                sign_of_life=self._service_conditions,
            )
        client = ImagesClient(self.cluster.router, self.api_key)
        self.narration.tell(f"Service ready at {self.cluster.router}.")
        labels = [digit for _ in range(SAMPLES_OF_EACH) for digit in DIGITS]
        before = self.narration.seconds
        pictures = client.generate_all(labels)
        seconds = self.narration.seconds - before
        path = self.output / "digits.png"
        write_sheet(pictures[: 2 * len(DIGITS)], len(DIGITS), path)
        self.narration.tell(
            f"{len(pictures)} digits drawn in {seconds:.1f} s; two of each in [green]{escape(str(path))}[/]."
        )
        judge = train_digit_judge()
        share = judge.share_recognised(np.stack(pictures), labels)
        self.narration.tell(
            f"A judge that knows {judge.held_out_accuracy:.1%} of held-out real digits recognises "
            f"[green]{share:.1%}[/] of them as what was asked."
        )
        if share < LEAST_SHARE:
            raise CommandFailed(f"the judge must recognise {LEAST_SHARE:.0%} of the digits and recognises {share:.1%}")

    def _service_conditions(self) -> dict[str, dict[str, str]]:
        return conditions_of(self.commands.get("diffusionservice", NAME, NAMESPACE).get("status", {}))

    def say_what_next(self, command: str) -> None:
        """Print what to type next, by way of `command`, which is diffusion-local for this cluster."""
        key = shlex.quote(str(self.cluster.folder.root / "demo-api-key"))
        lines = (
            "",
            "The cluster is up. Look around:",
            f"  {command} kubectl --namespace {NAMESPACE} get diffusiontrainings,diffusionservices,pods",
            f"  {command} kubectl diffusion describe {NAME} --namespace {NAMESPACE}",
            f"  curl --silent {self.cluster.router}/v1/images/generations \\",
            f'    --header "Authorization: Bearer $(cat {key})" --header "Content-Type: application/json" \\',
            """    --data '{"label": 7, "seed": 1}'""",
            f"For kubectl and helm of your own: export KUBECONFIG={shlex.quote(str(self.cluster.kubeconfig))}",
            f"Stop it: make down, or {command} down",
        )
        for line in lines:
            self.narration.console.print(line, markup=False)

    def stop(self) -> None:
        """Stop the cluster, if this came so far as to have one, and everything in it."""
        if "cluster" in self.__dict__:
            self.cluster.stop()
            self.narration.tell("Cluster stopped.")
