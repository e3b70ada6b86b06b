"""What the benchmarks do on an embedded cluster: commands, a client, the chart installed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.connection import connect
from diffusion_operator.kube.transport import HttpTransport

REPOSITORY = Path(__file__).resolve().parents[1]
SYSTEM_NAMESPACE = "diffusion-system"
OPERATOR_NODE = "node-1"
"""The first node on demand. The operator is pinned to it, so that the loss of another one is not its loss too."""
HOSTNAME = "kubernetes.io/hostname"


def commands_for(cluster: Cluster) -> ClusterCommands:
    """kubectl and helm with the cluster's kubeconfig; helm is built where there is none yet."""
    programs = ensure(["kubectl", "helm"], print)
    return ClusterCommands(programs["kubectl"], programs["helm"], cluster.kubeconfig)


@asynccontextmanager
async def api_client(kubeconfig: Path) -> AsyncIterator[ApiClient]:
    """A client as the operator has one, for as long as the block."""
    client = ApiClient(HttpTransport(connect(str(kubeconfig))))
    try:
        yield client
    finally:
        await client.transport.close()


def install_operator(commands: ClusterCommands, *options: str) -> None:
    """Install the chart with its CRDs and wait until the operator's pod is ready."""
    selector = HOSTNAME.replace(".", "\\.")
    commands.helm(
        *("upgrade", "--install", "diffusion-operator", str(REPOSITORY / "charts" / "diffusion-operator")),
        *("--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", "--timeout", "170s"),
        *("--set", f"nodeSelector.{selector}={OPERATOR_NODE}", *options),
    )
