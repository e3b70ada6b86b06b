"""`diffusion-server`: the engine pod's entry point."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click

from diffusion_contract import names
from diffusion_contract.agent_messages import TerminationMessage
from diffusion_contract.last_words import write_last_words
from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.metrics_page import metrics_app
from diffusion_router.door.options import DoorOptions, door_options, log_to_stderr, path_option
from diffusion_router.door.processes import Face, ending_event, serve_faces
from diffusion_server.app import engine_app
from diffusion_server.engine import Engine, Opened
from diffusion_server.measures import EngineMeasures
from diffusion_server.opening import OpeningRefusedError, open_engine, read_engine_config

_LOGGER = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class ServeOptions(DoorOptions):
    """What an engine needs besides."""

    models_directory: Path
    scratch_directory: Path


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("diffusion-operator"), prog_name="diffusion-server")
def main() -> None:
    """The engine of a DiffusionService: one model version, step-level batching, HTTP."""


@main.command()
@door_options(names.ENGINE_PORT, "engine.json")
@path_option("--models-directory", default=names.MODELS_DIRECTORY, help="The mounted claims with model versions.")
@path_option("--scratch-directory", default=names.SCRATCH_DIRECTORY, help="Where the model is unpacked.")
def serve(**given: Any) -> None:
    """Verify and load the model version of the configuration, and serve it until SIGTERM.

    Exit codes: 0 drained; 64 the model or the configuration is refused; 1 a crash, or a GPU that cannot be used. The
    termination file says why.
    """
    options = ServeOptions(**given)
    log_to_stderr()
    code = 0
    try:
        asyncio.run(_serve(options))
    except OpeningRefusedError as refused:
        _LOGGER.error("%s: %s", refused.reason, refused.message)
        words = TerminationMessage(reason=refused.reason, message=refused.message, path=refused.path)
        write_last_words(options.termination_file, words)
        code = refused.exit_code
    _leave(code)


@main.command()
@click.argument("image_id")
@click.option("--model", required=True, help="The model version: pvc://CLAIM/NAME@sha256:HEX.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The PNG file to write.")
@path_option("--models-directory", default=names.MODELS_DIRECTORY, help="The folder that holds CLAIM/NAME.")
@path_option("--scratch-directory", default=names.SCRATCH_DIRECTORY, help="Where the model is unpacked.")
def draw(image_id: str, model: str, output: Path, models_directory: Path, scratch_directory: Path) -> None:
    """Make the picture of an IMAGE_ID again, offline, from the model version that made it."""
    from diffusion_server.redraw import redraw

    try:
        output.write_bytes(redraw(image_id, model, models_directory, scratch_directory))
    except OpeningRefusedError as refused:
        raise click.ClickException(f"{refused.reason}: {refused.message}") from refused
    except (ValueError, OSError) as problem:
        raise click.ClickException(str(problem)) from problem


async def _serve(options: ServeOptions) -> None:
    began = time.monotonic()
    told_to_end = ending_event()
    config = read_engine_config(options.config)
    measures, keys = EngineMeasures(), ApiKeys(options.keys_directory)
    engine = Engine(config, measures)
    opening = in_own_thread(
        lambda: open_engine(config, options.models_directory, options.scratch_directory, measures), "opening"
    )

    def opened(done: "asyncio.Future[Opened]") -> None:
        if done.cancelled() or done.exception():
            told_to_end.set()
            return
        engine.open(done.result())
        seconds = time.monotonic() - began
        measures.observe_start(
            config.revision, done.result().model, config.sampling.sampler, done.result().times, seconds
        )
        _LOGGER.info("ready after %.1f s: revision %s, %s", seconds, config.revision, config.model)

    opening.add_done_callback(opened)
    faces = [
        Face(engine_app(engine, keys, measures), options.host, options.port),
        Face(metrics_app(measures.registry, keys), options.host, options.metrics_port),
    ]
    await serve_faces(faces, told_to_end, engine.drain)
    if opening.done():
        opening.result()


def in_own_thread(work: Callable[[], T], name: str) -> "asyncio.Future[T]":
    """Run `work` in a thread that does not keep the process alive; the future belongs to the running loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(action: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has been closed: nobody waits any more.
            loop.call_soon_threadsafe(action)

    def run() -> None:
        try:
            result = work()
        except Exception as problem:  # noqa: BLE001 - it is raised again by whoever awaits the future
            failure = problem
            tell(lambda: future.set_exception(failure))
        else:
            tell(lambda: future.set_result(result))

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _leave(code: int) -> None:
    """End at once: a model that is still being loaded in its thread must not hold up a pod that was told to end."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
