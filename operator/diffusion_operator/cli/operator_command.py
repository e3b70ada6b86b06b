"""`diffusion-operator run`: the operator as a process. Each option can also be set by its environment variable."""

import asyncio
import logging
import sys
import uuid
from collections.abc import Callable
from importlib.metadata import version
from socket import gethostname
from typing import Any
from urllib.parse import urlsplit

import click

from diffusion_contract.names import AGENT_PORT, HEALTH_PORT, METRICS_PORT
from diffusion_operator.kube.connection import NoConnection, connect
from diffusion_operator.loop.settings import OperatorSettings

VERSION = version("diffusion-operator")
PORT = click.IntRange(0, 65535)
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


def _option(flag: str, variable: str, default: object, text: str, kind: Any = None) -> Callable[[Any], Any]:
    """An option that shows its variable and its default in --help."""
    return click.option(
        flag, envvar=variable, default=default, help=text, type=kind, show_default=True, show_envvar=True
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="diffusion-operator")
def main() -> None:
    """Kubernetes operator that trains denoising-diffusion models on spot nodes and serves them."""


@main.command()
@click.option("--namespace", envvar="POD_NAMESPACE", help="Where the operator lives.  [default: the connection's]")
@_option("--pod-name", "POD_NAME", "", "This pod; the leader labels it.")
@_option(
    "--watch-namespaces", "DIFFUSION_WATCH_NAMESPACES", "", "Namespaces to serve, with commas between; none is all."
)
@_option(
    "--agent-url",
    "DIFFUSION_AGENT_URL",
    "https://diffusion-operator-agents.NAMESPACE.svc:8443",
    "The agent API for pods.",
)
@_option(
    "--trainer-image", "DIFFUSION_TRAINER_IMAGE", f"diffusion-operator/trainer:{VERSION}", "Default for trainings."
)
@_option("--server-image", "DIFFUSION_SERVER_IMAGE", f"diffusion-operator/server:{VERSION}", "Default for services.")
@_option("--router-image", "DIFFUSION_ROUTER_IMAGE", f"diffusion-operator/router:{VERSION}", "Image of the front door.")
@_option("--listen-host", "DIFFUSION_LISTEN_HOST", "0.0.0.0", "Address of all three ports.")  # noqa: S104 - a pod's
@_option("--agent-port", "DIFFUSION_AGENT_PORT", AGENT_PORT, "Agent API, HTTPS.", PORT)
@_option("--health-port", "DIFFUSION_HEALTH_PORT", HEALTH_PORT, "/healthz and /readyz.", PORT)
@_option("--metrics-port", "DIFFUSION_METRICS_PORT", METRICS_PORT, "/metrics.", PORT)
@_option(
    "--metrics-secure/--metrics-plain",
    "DIFFUSION_METRICS_SECURE",
    True,
    "Metrics over TLS to callers who may `get` the URL /metrics, or over HTTP to everyone.",
)
@_option("--workers", "DIFFUSION_WORKERS", 32, "Reconciles at a time.", click.IntRange(1, 64))
@_option("--resync-seconds", "DIFFUSION_RESYNC_SECONDS", 600.0, "Look at everything so often.", click.FloatRange(1))
@_option("--log-level", "DIFFUSION_LOG_LEVEL", "INFO", "What to log.", click.Choice(LEVELS, case_sensitive=False))
@click.option("--kubeconfig", envvar="KUBECONFIG", show_envvar=True, help="Outside a cluster.")
@click.option("--context", help="Context of the kubeconfig.  [default: its current one]")
def run(
    namespace: str | None,
    watch_namespaces: str,
    agent_url: str,
    kubeconfig: str | None,
    context: str | None,
    log_level: str,
    **settings: Any,
) -> None:
    """Serve until SIGTERM; exit code 1 asks to be started again."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        connection = connect(kubeconfig, context)
    except (NoConnection, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    home = namespace or connection.namespace
    url = agent_url.replace("NAMESPACE", home)
    if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
        raise click.BadParameter(f"{url!r} is not of the form https://HOST:PORT", param_hint="--agent-url")
    chosen = OperatorSettings(
        namespace=home,
        agent_url=url,
        identity=f"{settings['pod_name'] or gethostname()}_{uuid.uuid4().hex[:8]}",
        namespaces=tuple(part for name in watch_namespaces.split(",") if (part := name.strip())),
        **settings,
    )
    from diffusion_operator.loop.process import OperatorProcess

    async def serve() -> int:
        return await OperatorProcess(chosen, connection).run()

    sys.exit(asyncio.run(serve()))


if __name__ == "__main__":
    main()
