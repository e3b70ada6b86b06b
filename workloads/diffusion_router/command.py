"""`diffusion-router`: the router pod's entry point."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import httpx

from diffusion_contract import names
from diffusion_contract.agent_channel import AgentChannel
from diffusion_contract.agent_messages import RouterInstruction, RouterReport, TerminationMessage
from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.last_words import write_last_words
from diffusion_contract.serving_config import RouterConfig
from diffusion_router.app import router_app
from diffusion_router.discovery import Discovery
from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.configuration import UnusableConfiguration, read_configuration
from diffusion_router.door.limits import ANSWER_SECONDS
from diffusion_router.door.metrics_page import metrics_app
from diffusion_router.door.options import DoorOptions, door_options, log_to_stderr, path_option
from diffusion_router.door.processes import Face, ending_event, serve_faces
from diffusion_router.engine_table import EngineTable
from diffusion_router.forwarding import Forwarder
from diffusion_router.front_door import FrontDoor
from diffusion_router.instructions import InstructionThread
from diffusion_router.measures import RouterMeasures
from diffusion_router.route_book import RouteBook, configured_routes

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions(DoorOptions):
    """What a router needs besides."""

    state_directory: Path


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("diffusion-operator"), prog_name="diffusion-router")
def main() -> None:
    """The front door of a DiffusionService: keys, limits, and the choice of an engine."""


@main.command()
@door_options(names.ROUTER_PORT, "router.json")
@path_option("--state-directory", default=names.STATE_DIRECTORY, help="Where the newest routes are kept.")
def serve(**given: Any) -> None:
    """Answer clients from the engines of the configured routes, until SIGTERM.

    Exit codes: 0 drained; 64 the configuration is refused.
    """
    options = ServeOptions(**given)
    log_to_stderr()
    try:
        config = read_configuration(RouterConfig, options.config)
    except UnusableConfiguration as problem:
        _LOGGER.error("ConfigRefused: %s", problem)
        words = TerminationMessage(reason="ConfigRefused", message=str(problem))
        write_last_words(options.termination_file, words)
        sys.exit(ExitCode.CONFIGURATION_REFUSED)
    asyncio.run(_serve(config, options))


async def _serve(config: RouterConfig, options: ServeOptions) -> None:
    told_to_end = ending_event()
    measures, keys = RouterMeasures(), ApiKeys(options.keys_directory)
    book, table = RouteBook(options.state_directory, configured_routes(config)), EngineTable()

    def report() -> RouterReport:
        ready = table.ready_counts(route.revision for route in book.watched)
        return RouterReport(ready_engines=ready, routed=book.routed)

    async with _client() as client:
        with _instructions(book, report, options.config) as instructions:

            def changed() -> None:
                measures.show_ready(report().ready_engines)
                if instructions:
                    instructions.report_now()

            discovery = Discovery(table, book, client, changed)
            door = FrontDoor(lambda: discovery.satisfied)
            measures.in_flight.set_function(lambda: door.in_flight)
            measures.outstanding.set_function(lambda: table.outstanding_work)
            forwarder = Forwarder(table, lambda: book.in_force, client, measures.count_retry)

            def healthy() -> bool:
                return discovery.healthy and (instructions is None or instructions.alive)

            faces = [
                Face(router_app(config, door, forwarder, keys, measures, healthy), options.host, options.port),
                Face(metrics_app(measures.registry, keys), options.host, options.metrics_port),
            ]
            async with _running(discovery):
                await serve_faces(faces, told_to_end, door.close)


def _client() -> httpx.AsyncClient:
    """To the engines, which are named by address: no proxy of the environment may stand in between."""
    timeout = httpx.Timeout(ANSWER_SECONDS + 10, connect=2.0)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0)
    return httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)


@contextlib.contextmanager
def _instructions(
    book: RouteBook, report: Callable[[], RouterReport], config: Path
) -> Iterator[InstructionThread | None]:
    """The thread that listens to the operator; None where no operator was named, so that the configuration holds."""
    channel = AgentChannel.from_environment()
    if channel is None:
        yield None
        return
    loop = asyncio.get_running_loop()

    def told(instruction: RouterInstruction) -> None:
        loop.call_soon_threadsafe(book.told, instruction)

    def unanswered() -> None:
        if mounted := _mounted_routes(config):
            loop.call_soon_threadsafe(book.read, mounted)

    thread = InstructionThread(channel, report, told, unanswered)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def _mounted_routes(file: Path) -> RouterInstruction | None:
    """What the configuration says by now; None where it cannot be read, which changes nothing."""
    try:
        return configured_routes(read_configuration(RouterConfig, file))
    except UnusableConfiguration:
        return None


@contextlib.asynccontextmanager
async def _running(discovery: Discovery) -> AsyncIterator[None]:
    """Look for engines while the block runs."""
    task = asyncio.create_task(discovery.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
