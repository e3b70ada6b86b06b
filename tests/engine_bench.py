"""An engine's application over a loop that is a stand-in for the compute thread."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from diffusion_contract.serving_config import EngineConfig
from diffusion_router.door.api_keys import ApiKeys
from diffusion_server.app import engine_app
from diffusion_server.engine import Engine, Opened
from diffusion_server.measures import EngineMeasures
from diffusion_server.samples import Sample, ServedModel
from diffusion_server.step_loop import Done, Finished, Load, Outcome
from diffusion_server.step_times import StepTimes
from serving_pods import KEY, SAMPLING, write_key

DIGEST = "sha256:" + "ab" * 32
MODEL = ServedModel(digest=DIGEST, width=8, height=8, classes=10, timesteps=1000)
PATH = "/v1/images/generations"
FINISHED = Finished(bytes(64), 0.010, 0.020)


class StandInLoop:
    """Answers every row at once with `outcome`; without one, when the test calls `finish`."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.healthy = True
        self.now = Load(0, 0, 0)
        self.samples: list[Sample] = []
        self.cancelled: list[int] = []
        self.stopped = False
        self.unfinished: list[Done] = []
        self.two_submitted = asyncio.Event()

    def load(self) -> Load:
        return self.now

    def submit(self, sample: Sample, done: Done) -> int:
        self.samples.append(sample)
        if len(self.samples) == 2:
            self.two_submitted.set()
        if self.outcome is not None:
            done(self.outcome)
        else:
            self.unfinished.append(done)
        return len(self.samples)

    def finish(self) -> None:
        """End the rows that wait."""
        for done in self.unfinished:
            done(FINISHED)

    def cancel(self, key: int) -> bool:
        self.cancelled.append(key)
        return self.outcome is None

    def stop(self) -> None:
        self.stopped = True


class Bench:
    """An engine, its application and its loop."""

    def __init__(self, folder: Path, outcome: Outcome | None = None, is_open: bool = True) -> None:
        write_key(folder)
        config = EngineConfig(
            service="digits", namespace="default", revision="r1", model="pvc://c/n@" + DIGEST, sampling=SAMPLING
        )
        self.loop = StandInLoop(outcome or FINISHED)
        self.measures = EngineMeasures()
        self.engine = Engine(config, self.measures)
        if is_open:
            self.engine.open(Opened(MODEL, self.loop, StepTimes(((1, 0.001), (16, 0.004)))))
        self.app = engine_app(self.engine, ApiKeys(folder), self.measures)

    async def ask(self, method: str = "POST", path: str = PATH, key: str | None = KEY, **how: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
            return await client.request(method, path, **how)

    def generate(self, **body: Any) -> httpx.Response:
        return asyncio.run(self.ask(json=body))
