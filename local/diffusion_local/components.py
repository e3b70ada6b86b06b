"""Command lines of etcd and the three programs of the control plane, as functions of where the files lie."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_local.certificates import ADMIN_GROUP, Authority, KeyPair, signing_key
from diffusion_local.kubeconfig import write_kubeconfig
from diffusion_local.network import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CLUSTER_DOMAIN,
    CONTROL_PLANE_ADDRESS,
    ETCD_PORT,
    SERVICE_RANGE,
)
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder

API_URL = f"https://127.0.0.1:{API_PORT}"
"""The API server as seen inside the namespace."""
ETCD_URL = f"http://127.0.0.1:{ETCD_PORT}"
SERVICE_ACCOUNT_ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"
GANG_GATE = "--feature-gates=GenericWorkload=true"
NODE_MONITOR_PERIOD = "1s"


@dataclass(frozen=True)
class Credentials:
    """Certificates and keys that the command lines name."""

    authority: Authority
    api_server: KeyPair
    kubelet_client: KeyPair
    admin: KeyPair
    service_accounts: KeyPair


def issue_credentials(folder: StateFolder, name: str, outside_port: int) -> Credentials:
    """Make all certificates, the components' kubeconfigs (inside address) and the administrator's (outside address)."""
    authority = Authority(folder.certificates)
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        SERVICE_ACCOUNT_ISSUER.removeprefix("https://"),
        "localhost",
    ]
    addresses = ["127.0.0.1", CONTROL_PLANE_ADDRESS, API_SERVICE_ADDRESS]
    credentials = Credentials(
        authority,
        authority.server("apiserver", names, addresses),
        authority.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", [ADMIN_GROUP]),
        authority.client("admin", "kubernetes-admin", [ADMIN_GROUP]),
        signing_key(folder.certificates),
    )
    for component in ("kube-controller-manager", "kube-scheduler"):
        write_kubeconfig(
            folder.certificates / f"{component}.kubeconfig",
            name=component,
            server=API_URL,
            authority=authority.files.certificate,
            client=authority.client(component, f"system:{component}"),
        )
    write_kubeconfig(
        folder.kubeconfig,
        name=f"diffusion-local-{name}",
        server=f"https://127.0.0.1:{outside_port}",
        authority=authority.files.certificate,
        client=credentials.admin,
    )
    return credentials


def etcd(options: ClusterOptions, folder: StateFolder) -> list[str]:
    """Return etcd's command line; without fsync, for this is never anybody's only copy of anything."""
    return [
        str(options.programs["etcd"]),
        f"--data-dir={folder.etcd}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(options: ClusterOptions, folder: StateFolder, credentials: Credentials) -> list[str]:
    """Return the API server's command line."""
    command = [
        str(options.programs["kube-apiserver"]),
        f"--etcd-servers={ETCD_URL}",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--advertise-address={CONTROL_PLANE_ADDRESS}",
        f"--cert-dir={folder.certificates}",
        f"--tls-cert-file={credentials.api_server.certificate}",
        f"--tls-private-key-file={credentials.api_server.key}",
        f"--client-ca-file={credentials.authority.files.certificate}",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
        f"--service-account-key-file={credentials.service_accounts.certificate}",
        f"--service-account-signing-key-file={credentials.service_accounts.key}",
        f"--kubelet-client-certificate={credentials.kubelet_client.certificate}",
        f"--kubelet-client-key={credentials.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    if options.gang:
        command += [GANG_GATE, "--runtime-config=scheduling.k8s.io/v1beta1=true"]
    return command


def controller_manager(options: ClusterOptions, folder: StateFolder, credentials: Credentials) -> list[str]:
    """Return the controller manager's command line; a silent node counts as lost after the grace of `options`."""
    return [
        str(options.programs["kube-controller-manager"]),
        *_client_flags(folder, "kube-controller-manager", 10257),
        "--use-service-account-credentials=true",
        f"--root-ca-file={credentials.authority.files.certificate}",
        f"--service-account-private-key-file={credentials.service_accounts.key}",
        f"--cluster-signing-cert-file={credentials.authority.files.certificate}",
        f"--cluster-signing-key-file={credentials.authority.files.key}",
        f"--node-monitor-period={NODE_MONITOR_PERIOD}",
        f"--node-monitor-grace-period={options.node_monitor_grace_seconds}s",
        "--allocate-node-cidrs=false",
    ]


def scheduler(options: ClusterOptions, folder: StateFolder) -> list[str]:
    """Return the scheduler's command line."""
    command = [str(options.programs["kube-scheduler"]), *_client_flags(folder, "kube-scheduler", 10259)]
    return [*command, GANG_GATE] if options.gang else command


def _client_flags(folder: StateFolder, component: str, port: int) -> Sequence[str]:
    kubeconfig = folder.certificates / f"{component}.kubeconfig"
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    )
