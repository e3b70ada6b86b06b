"""How one operator process is set up. The command line fills it in; tests build their own."""

import socket
from dataclasses import dataclass, field

from diffusion_contract.names import AGENT_PORT, HEALTH_PORT, METRICS_PORT

LEASE_NAME = "diffusion-operator"
CERTIFICATE_SECRET = "diffusion-operator-agent-tls"  # noqa: S105 - the name of a Secret, not its content
LEADER_LABEL = "diffusion.dev/leader"


@dataclass(frozen=True)
class OperatorSettings:
    """Settings of a process. Ports may be 0 (any free one); intervals are seconds."""

    namespace: str
    """Where the operator lives: its Lease, and the Secret with the agent API's certificates."""
    agent_url: str
    trainer_image: str
    server_image: str
    router_image: str
    pod_name: str = ""
    """This pod, which gets the leader label; empty outside a cluster."""
    identity: str = field(default_factory=socket.gethostname)
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none means all of them."""
    listen_host: str = "0.0.0.0"  # noqa: S104 - pods of other nodes and the kubelet must reach it
    agent_port: int = AGENT_PORT
    health_port: int = HEALTH_PORT
    metrics_port: int = METRICS_PORT
    metrics_secure: bool = True
    """Serve metrics over TLS to those who may `get` the URL /metrics; else plainly to everyone."""
    workers: int = 32
    """Custom resources that are worked on at once. Most of a reconcile is waiting for the API server."""
    resync_seconds: float = 600.0
    lease_seconds: int = 15
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0
