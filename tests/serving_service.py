"""Two engines behind a router as real processes, and clients that crowd them or go away."""

import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deadline import wait_until
from diffusion_contract.agent_messages import Route
from diffusion_contract.serving_config import RouterConfig
from serving_pods import (
    KEY,
    REVISION,
    SAMPLING,
    Pod,
    engine_pod,
    publish_random_model,
    router_pod,
    write_hosts,
    write_key,
)

NAME = "engines.test"
ROUTER, FIRST, SECOND = "127.77.0.1", "127.77.0.2", "127.77.0.3"


@dataclass
class Service:
    """Two engines behind a router, and the folders around them."""

    folder: Path
    reference: str
    router: Pod
    first: Pod
    second: Pod

    @property
    def engines(self) -> tuple[Pod, Pod]:
        return self.first, self.second

    def route_to(self, *hosts: str) -> None:
        """Change what the engines' name stands for, and wait until the router knows."""
        write_hosts(self.router.folder, {NAME: hosts})
        count = len(hosts)
        wait_until(
            lambda: self.router.metric("diffusion_router_ready_engines") == count, 30, f"{count} engines are ready"
        )


@contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """Two engines that serve a random model, and a router that has found both."""
    reference = publish_random_model(folder / "models", folder)
    write_key(folder / "keys")
    digest = reference.split("@")[1]
    route = Route(revision=REVISION, host=NAME, port=8000, model_digest=digest)
    config = RouterConfig(service="digits", namespace="default", sampling=SAMPLING, routes=(route,))
    with ExitStack() as pods:

        def engine(name: str, host: str) -> Pod:
            return pods.enter_context(engine_pod(folder / name, folder / "models", reference, host, folder / "keys"))

        first, second = engine("first", FIRST), engine("second", SECOND)
        hosts = {NAME: (FIRST, SECOND)}
        router = pods.enter_context(router_pod(folder / "router", config, hosts, ROUTER, folder / "keys"))
        for pod in (first, second, router):
            pod.wait_ready()
        made = Service(folder, reference, router, first, second)
        made.route_to(FIRST, SECOND)
        yield made


@contextmanager
def crowd(pod: Pod, requests: int, **asked: object) -> Iterator[ThreadPoolExecutor]:
    """Keep `requests` requests running on `pod` while the block runs."""
    with ThreadPoolExecutor(requests) as pool:
        futures = [pool.submit(pod.generate, seed=1000 + number, **asked) for number in range(requests)]
        wait_until(lambda: pod.metric("diffusion_engine_running_rows") >= min(requests, 8), 30, "the crowd is running")
        yield pool
        assert all(future.result(60).status_code == 200 for future in futures)


@contextmanager
def client_asking(host: str, port: int, **asked: object) -> Iterator[socket.socket]:
    """A connection over which a request was sent; it is closed, answered or not, when the block ends."""
    body = json.dumps(asked).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, port), timeout=30) as client:
        client.sendall(head.encode() + length.encode() + body)
        yield client


def first_answer(clients: list[socket.socket]) -> str:
    """What the first of `clients` that was answered has received; "" while none was."""
    answered, _, _ = select.select(clients, [], [], 0.1)
    return answered[0].recv(4096).decode() if answered else ""
