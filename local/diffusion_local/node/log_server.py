"""The kubelet's HTTPS port: logs of containers, the pods, and a clear 501 for what a pretended node cannot do."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aiohttp import web

from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.container_log import LogReader, shown, since
from diffusion_local.node.container_status import NO_EPHEMERAL_CONTAINERS, ephemeral_statuses
from diffusion_local.node.moments import parse_moment
from diffusion_local.node.pod_worker import PodWorker

LOOK_SECONDS = 0.15
GONE_BECAUSE = "only the newest runs since the node's last start are kept"
LOGS_INSTEAD = "`kubectl logs` shows what they say"
FORWARD_INSTEAD = (
    "`diffusion-local status` names the address of the router, or of what `up --forward NAMESPACE/SERVICE:PORT` chose"
)
NOT_DONE = {
    "exec": ("exec", LOGS_INSTEAD),
    "attach": ("attach", LOGS_INSTEAD),
    "run": ("run", LOGS_INSTEAD),
    "checkpoint": ("checkpoint", LOGS_INSTEAD),
    "portForward": ("port-forward", FORWARD_INSTEAD),
}
"""What the kubelet's port calls it, what a user calls it, and what there is instead."""


class LogServer:
    """Serves what `kubectl logs` asks for."""

    def __init__(self, configuration: NodeConfiguration, workers: Mapping[str, PodWorker]) -> None:
        self.configuration = configuration
        self.workers = workers

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/pods", self.pods)
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self.logs)
        for verb in NOT_DONE:
            application.router.add_route("*", f"/{verb}/{{rest:.*}}", self.not_done)
        return application

    async def start(self) -> web.AppRunner:
        """Listen; the caller cleans the runner up."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.configuration.ca_file))
        context.load_cert_chain(self.configuration.serving_cert_file, self.configuration.serving_key_file)
        context.verify_mode = ssl.CERT_REQUIRED
        runner = web.AppRunner(self.application(), access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(
            runner, self.configuration.address, self.configuration.kubelet_port, ssl_context=context, shutdown_timeout=1
        ).start()
        return runner

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return web.Response(text="ok")

    async def pods(self, _: web.Request) -> web.Response:
        """The pods of this node, with their statuses."""
        items = [{**worker.pod, "status": worker.status()} for worker in self.workers.values()]
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "items": items})

    async def not_done(self, request: web.Request) -> web.Response:
        """What this node does not do."""
        verb, instead = NOT_DONE[request.path.split("/")[1]]
        why = "is not supported by this development node, whose containers are processes of your machine"
        return web.Response(status=501, text=f"{verb} {why}: {instead}\n")

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """The log of the newest run of a container, or of the one before."""
        names = request.match_info
        worker = next((w for w in self.workers.values() if w.name == f"{names['namespace']}/{names['pod']}"), None)
        if worker is None:
            return web.Response(status=404, text=f'pod "{names["pod"]}" is not on this node\n')
        if names["container"] in {status["name"] for status in ephemeral_statuses(worker.pod)}:
            return web.Response(status=400, text=f"{NO_EPHEMERAL_CONTAINERS}\n")
        known = worker.record.containers.get(names["container"])
        run = None if known is None or not known.container_id else int(known.container_id.rpartition("-")[2])
        previous = request.query.get("previous") == "true"
        if run is None or (previous and run == 0):
            waits = waiting_reason(worker.status(), names["container"])
            return web.Response(status=400, text=no_log(names["container"], names["pod"], waits, previous))
        path = worker.place.log_path(names["container"], run - 1 if previous else run)
        if not path.exists():
            gone = f'the log of container "{names["container"]}" in pod "{names["pod"]}" is gone: {GONE_BECAUSE}\n'
            return web.Response(status=400, text=gone)  # the API server keeps the words of no 404
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        limit = int(request.query.get("limitBytes") or 0) or None
        async for piece in self.pieces(worker, names["container"], path, request.query):
            cut = piece if limit is None else piece[:limit]
            await answer.write(cut)
            if limit is not None:
                limit -= len(cut)
                if limit <= 0:
                    break
        await answer.write_eof()
        return answer

    async def pieces(
        self, worker: PodWorker, container: str, path: Path, query: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """The chosen lines, and with `follow` those that come until the run ends."""
        timestamps = query.get("timestamps") == "true"
        moment = since_moment(query, worker.services.clock())
        with contextlib.closing(LogReader(path)) as log:
            chosen = since(log.lines(), moment)
            tail = int(query["tailLines"]) if query.get("tailLines") else None
            for line in chosen if tail is None else deque(chosen, maxlen=tail):
                yield shown(line, timestamps)
            while query.get("follow") == "true":
                run = worker.runs.get(container)
                over = run is None or not run.alive or worker.place.log_path(container, run.number) != path
                for line in log.lines():
                    yield shown(line, timestamps)
                if over:
                    return
                await asyncio.sleep(LOOK_SECONDS)


def waiting_reason(status: Manifest, container: str) -> str:
    """Why a container that never ran waits, as its pod's status tells it."""
    entries = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
    reasons = (entry["state"].get("waiting", {}).get("reason") for entry in entries if entry["name"] == container)
    return str(next(reasons, None) or "ContainerCreating")


def no_log(container: str, pod: str, waits: str, previous: bool) -> str:
    """Why there is nothing to show, in a kubelet's words."""
    if previous:
        return f'previous terminated container "{container}" in pod "{pod}" not found\n'
    return f'container "{container}" in pod "{pod}" is waiting to start: {waits}\n'


def since_moment(query: Mapping[str, str], now: float) -> float | None:
    """`sinceSeconds` or `sinceTime` as seconds since the epoch."""
    if query.get("sinceSeconds"):
        return now - float(query["sinceSeconds"])
    return parse_moment(query["sinceTime"]) if query.get("sinceTime") else None
