"""Options that the commands of both doors have: where to listen and where the mounted files are."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from diffusion_contract import names


@dataclass(frozen=True)
class DoorOptions:
    """Where a door listens and where it finds its files."""

    config: Path
    host: str
    port: int
    metrics_port: int
    keys_directory: Path
    termination_file: Path


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PORT = click.IntRange(0, 65535)

shown = partial(click.option, show_default=True)
"""An option whose default stands in the help."""

path_option = partial(shown, type=click.Path(path_type=Path))
"""Likewise, for a file or a folder."""


def door_options(port: int, config_name: str) -> Decorator:
    """The fields of DoorOptions as options, with the defaults of a pod that the operator made."""
    config = f"{names.CONFIG_DIRECTORY}/{config_name}"
    options = [
        path_option("--config", envvar=names.ENV_CONFIG_FILE, default=config, help="The configuration."),
        shown("--host", envvar=names.ENV_POD_IP, default="127.0.0.1", help="Address to listen on."),
        shown("--port", type=PORT, default=port, help="Port of the API."),
        shown("--metrics-port", type=PORT, default=names.METRICS_PORT, help="Port of /metrics."),
        path_option("--keys-directory", default=names.KEYS_DIRECTORY, help="The mounted Secret with key hashes."),
        path_option("--termination-file", default=names.TERMINATION_FILE, help="Where a refusal is explained."),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def log_to_stderr() -> None:
    """One line per event on standard error, as `kubectl logs` shows it; the HTTP client's own chatter is left out."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
