"""The routes in force: from the configuration at first, then from the operator, kept on disk for a restart."""

import logging
import os
from pathlib import Path

from diffusion_contract.agent_messages import Route, RouterInstruction

_LOGGER = logging.getLogger(__name__)
FILE_NAME = "routes.json"


class RouteBook:
    """The newest routes. The file in `directory` outlives a restart of the container while the operator is away."""

    def __init__(self, directory: Path, configured: tuple[Route, ...]) -> None:
        self._file = directory / FILE_NAME
        kept = _read(self._file)
        self.routes = configured if kept is None else kept
        _LOGGER.info("%d routes %s", len(self.routes), "from the configuration" if kept is None else "kept on disk")

    def told(self, routes: tuple[Route, ...]) -> None:
        """The operator says that these are the routes from now on."""
        if routes == self.routes:
            return
        self.routes = routes
        _LOGGER.info("routes: %s", ", ".join(f"{route.revision} {route.weight} %" for route in routes) or "none")
        try:
            _write(self._file, RouterInstruction(routes=routes))
        except OSError as problem:
            _LOGGER.warning("the routes are in force but could not be kept in %s: %s", self._file, problem)


def _read(file: Path) -> tuple[Route, ...] | None:
    """The kept routes; None where there are none, or none that can be read."""
    try:
        return RouterInstruction.model_validate_json(file.read_bytes()).routes
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        _LOGGER.warning("%s is of no use, the configuration holds: %s", file, problem)
        return None


def _write(file: Path, instruction: RouterInstruction) -> None:
    """Whole or not at all: a crash in between leaves the older file."""
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as target:
        target.write(instruction.model_dump_json(by_alias=True))
        target.flush()
        os.fsync(target.fileno())
    partial.replace(file)
