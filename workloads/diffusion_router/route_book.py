"""The routes in force: from the configuration at first, then from the operator, kept on disk for a restart.

While the operator does not answer, the configuration is read again: its file follows the ConfigMap. It may lag behind
what the operator said before, so of it only routes that hold since later are taken.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from diffusion_contract.agent_messages import Route, RouterInstruction
from diffusion_contract.serving_config import RouterConfig

_LOGGER = logging.getLogger(__name__)
FILE_NAME = "routes.json"


class RouteBook:
    """The routes in force, and newer ones that come into force when their engines have been found.

    A new route is watched before it is used: between the operator's word and the first look at the new engines there
    must be no moment without any. The file in `directory` outlives a restart while the operator is away.
    """

    def __init__(self, directory: Path, configured: RouterInstruction) -> None:
        self._file = directory / FILE_NAME
        kept = _read(self._file)
        is_newest = kept is not None and kept.since >= configured.since
        self._told = kept if kept is not None and is_newest else configured
        self.in_force = self._told.routes
        self.settled = False
        """Whether engines have been looked for since the start: before that nobody knows what is in force."""
        self.news = asyncio.Event()
        """Set when the operator has said something new; whoever looks for engines clears it."""
        _LOGGER.info("%d routes %s", len(self.in_force), "kept on disk" if is_newest else "from the configuration")

    @property
    def watched(self) -> tuple[Route, ...]:
        """Routes whose engines must be known: the newest ones, and those in force until these take over."""
        newest = {route.revision for route in self._told.routes}
        return (*self._told.routes, *(route for route in self.in_force if route.revision not in newest))

    @property
    def routed(self) -> tuple[str, ...] | None:
        """The revisions that requests are sent to; None before `settled`."""
        return tuple(route.revision for route in self.in_force if route.weight > 0) if self.settled else None

    def told(self, instruction: RouterInstruction) -> None:
        """The operator says that these are the routes from now on."""
        if instruction == self._told:
            return
        self._told = instruction
        self.news.set()
        _LOGGER.info("told routes: %s", _named(instruction.routes))
        try:
            _write(self._file, instruction)
        except OSError as problem:
            _LOGGER.warning("the routes hold but could not be kept in %s: %s", self._file, problem)

    def read(self, configured: RouterInstruction) -> None:
        """The mounted configuration says this, which counts only where it is newer than what is known."""
        if configured.since > self._told.since:
            self.told(configured)

    def settle(self, ready_engines: Mapping[str, int]) -> None:
        """After all watched engines were asked: let the newest routes take over, if they can answer."""
        chosen = routes_to_use(self.in_force, self._told.routes, ready_engines)
        if chosen != self.in_force:
            _LOGGER.info("routes in force: %s", _named(chosen))
        self.in_force, self.settled = chosen, True


def routes_to_use(
    in_force: tuple[Route, ...], newest: tuple[Route, ...], ready_engines: Mapping[str, int]
) -> tuple[Route, ...]:
    """The newest routes, unless none of their engines is ready yet while one of those in force is."""
    stay = bool(newest) and not _can_answer(newest, ready_engines) and _can_answer(in_force, ready_engines)
    return in_force if stay else newest


def _can_answer(routes: tuple[Route, ...], ready_engines: Mapping[str, int]) -> bool:
    return any(route.weight > 0 and ready_engines.get(route.revision, 0) > 0 for route in routes)


def _named(routes: tuple[Route, ...]) -> str:
    return ", ".join(f"{route.revision} {route.weight} %" for route in routes) or "none"


def configured_routes(config: RouterConfig) -> RouterInstruction:
    """What a configuration says about routes."""
    return RouterInstruction(routes=config.routes, since=config.since)


def _read(file: Path) -> RouterInstruction | None:
    """The kept routes; None where there are none, or none that can be read."""
    try:
        return RouterInstruction.model_validate_json(file.read_bytes())
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
