"""A transport that answers from a script: each test says what the API server says, and reads what it was asked."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.kube.errors import Unreachable, refusal
from diffusion_operator.kube.transport import Reply

Answer = Reply | Exception | Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request as it was sent."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    content_type: str


def failure(code: int, reason: str = "", retry_after: float | None = None) -> Reply:
    """The API server says no."""
    status = {"kind": "Status", "code": code, "reason": reason, "message": f"said {code}"}
    return Reply(code, json.dumps(status).encode(), retry_after)


@dataclass
class ScriptedTransport:
    """Replies in the order in which they were scripted for `METHOD PATH`; the last one is given again and again."""

    asked: list[Asked] = field(default_factory=list)
    scripts: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    watches: deque[list[Any]] = field(default_factory=deque)
    """Each watch that is opened yields the items of one list (an exception is raised), then stays silent for good."""
    watch_queries: list[Mapping[str, str]] = field(default_factory=list)

    def say(self, request: str, *answers: Answer) -> None:
        """Script the answers to `METHOD PATH`."""
        self.scripts[request].extend(answers)

    def sent(self, method: str) -> list[Asked]:
        """The requests of one method."""
        return [asked for asked in self.asked if asked.method == method]

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        """See Transport.request."""
        self.asked.append(Asked(method, path, dict(query), json.loads(body) if body else None, content_type))
        script = self.scripts[f"{method} {path}"]
        if not script:
            return failure(404, "NotFound")
        answer = script.popleft() if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(200, json.dumps(answer).encode())

    async def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """See Transport.lines."""
        self.watch_queries.append(dict(query))
        for item in self.watches.popleft() if self.watches else []:
            if isinstance(item, Exception):
                raise item
            yield json.dumps(item).encode()
        await asyncio.sleep(silence)
        raise Unreachable(f"watch {path}: silent")

    async def close(self) -> None:
        """See Transport.close."""


def gone() -> Exception:
    """The watch position is too old, said by HTTP code."""
    return refusal(410, "Gone", "too old resource version")
