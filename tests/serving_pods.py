"""Engines and routers as real processes on loopback addresses, around a tiny model with random weights."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deadline import wait_until
from diffusion_contract.model_reference import ModelReference
from diffusion_contract.run_config import (
    ConditioningSpec,
    DenoiserSpec,
    DiffusionSpec,
    ModelSpec,
    ScheduleSpec,
)
from diffusion_contract.serving_config import EngineConfig, RouterConfig, SamplingSpec, ServiceClass

CLAIM, MODEL_NAME = "models", "tiny"
REVISION = "r1"
KEY = "test-key"
BIN = Path(sys.executable).parent
SAMPLING = SamplingSpec(
    sampler="Euler",
    guidance_scale=2.0,
    classes=(ServiceClass(name="final", steps=8), ServiceClass(name="slow", steps=400)),
)
FLOW = DiffusionSpec(schedule=ScheduleSpec(type="FlowMatching"), prediction="Flow")


def tiny_model(classes: int | None = 10, hidden_size: int = 32) -> ModelSpec:
    """A DiT that steps in about a millisecond."""
    conditioning = ConditioningSpec(type="Class", classes=classes) if classes else ConditioningSpec()
    config = {"patch_size": 2, "hidden_size": hidden_size, "depth": 2, "num_heads": 2}
    denoiser = DenoiserSpec(type="DiT", sample_size=8, channels=1, config=config)
    return ModelSpec(denoiser=denoiser, conditioning=conditioning)


def save_random_model(folder: Path, model: ModelSpec, diffusion: DiffusionSpec = FLOW) -> None:
    """A model folder whose weights are random in every layer, those included that training starts at zero."""
    import torch

    from diffusion_core.denoisers import build_denoiser
    from diffusion_core.model_folder import save_model_folder
    from diffusion_core.normalization import Normalization

    torch.manual_seed(7)
    weights = build_denoiser(model).state_dict()
    shaken = {
        name: tensor + 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    channels = model.denoiser.channels
    save_model_folder(
        folder, shaken, model, diffusion, Normalization(minimum=(0.0,) * channels, maximum=(16.0,) * channels)
    )


def publish_random_model(models: Path, scratch: Path, model: ModelSpec | None = None) -> str:
    """Publish a random model in the claim's folder below `models`; returns its reference."""
    from diffusion_registry.image_layout import publish
    from diffusion_registry.model_card import write_model_card
    from tiny_models import version_config

    model = model or tiny_model()
    folder = scratch / "model-folder"
    save_random_model(folder, model)
    config = version_config(model)
    write_model_card(folder, config)
    layout = models / CLAIM / MODEL_NAME
    layout.parent.mkdir(parents=True, exist_ok=True)
    return str(ModelReference(CLAIM, MODEL_NAME, publish(folder, layout, config, "step-0")))


def write_key(directory: Path, name: str = "tester", key: str = KEY) -> None:
    """Put a key's hash where the Secret would be mounted."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("sha256:" + hashlib.sha256(key.encode()).hexdigest())


@dataclass
class Pod:
    """A process that serves HTTP, and its log."""

    process: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    folder: Path
    log_file: Path
    headers: Mapping[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {KEY}"})

    @property
    def log(self) -> str:
        """What the process has written to standard error."""
        return self.log_file.read_text()

    def status_of(self, path: str) -> int:
        """The HTTP status of an open path; 0 while nobody listens."""
        try:
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self, seconds: float = 150) -> None:
        """Wait until /readyz is green."""
        wait_until(lambda: self.status_of("/readyz") == 200, seconds, f"{self.url} is ready\n{self.log}")

    def generate(self, **asked: object) -> httpx.Response:
        """POST /v1/images/generations with this body."""
        url = self.url + "/v1/images/generations"
        return httpx.post(url, json=asked, headers=self.headers, timeout=60, trust_env=False)

    def images(self, **asked: object) -> list[bytes]:
        """The PNG files that a request gives."""
        import base64

        answer = self.generate(**asked)
        assert answer.status_code == 200, answer.text
        return [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]

    def metric(self, name: str) -> float:
        """The sum of a metric's samples of this exact name."""
        page = httpx.get(self.metrics_url + "/metrics", headers=self.headers, timeout=5, trust_env=False).text
        lines = [line for line in page.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def process_pod(
    folder: Path, command: Sequence[str], host: str, port: int, environment: Mapping[str, str]
) -> Iterator[Pod]:
    """Run `command` as a pod would run it, and end it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIFFUSION_")}
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, stderr=log, stdout=log, env=inherited | {"OMP_NUM_THREADS": "1"} | dict(environment)
        )
    pod = Pod(process, f"http://{host}:{port}", f"http://{host}:9090", folder, log_file)
    try:
        yield pod
    finally:
        if process.poll() is None:
            pod.kill()


@contextmanager
def engine_pod(
    folder: Path,
    models: Path,
    reference: str,
    host: str,
    keys: Path,
    sampling: SamplingSpec = SAMPLING,
    max_batch: int = 8,
) -> Iterator[Pod]:
    """An engine on `host`:8000, as the operator would configure it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = EngineConfig(
        service="digits",
        namespace="default",
        revision=REVISION,
        model=reference,
        sampling=sampling,
        max_batch=max_batch,
    )
    file = folder / "engine.json"
    file.write_text(json.dumps(config.to_wire()))
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    command = [
        str(BIN / "diffusion-server"), "serve", "--models-directory", str(models), "--keys-directory", str(keys),
        "--scratch-directory", str(scratch), "--termination-file", str(folder / "termination"),
    ]  # fmt: skip
    environment = {"DIFFUSION_CONFIG_FILE": str(file), "DIFFUSION_POD_IP": host}
    with process_pod(folder, command, host, 8000, environment) as pod:
        yield pod


@contextmanager
def router_pod(
    folder: Path, config: RouterConfig, hosts: Mapping[str, Sequence[str]], host: str, keys: Path
) -> Iterator[Pod]:
    """A router on `host`:8080 whose names come from a hosts file of its own, as in the embedded cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "router.json").write_text(json.dumps(config.to_wire()))
    write_hosts(folder, hosts)
    state = folder / "state"
    state.mkdir(exist_ok=True)
    serve = [
        str(BIN / "diffusion-router"), "serve", "--config", str(folder / "router.json"), "--host", host,
        "--keys-directory", str(keys), "--state-directory", str(state),
        "--termination-file", str(folder / "termination"),
    ]  # fmt: skip
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", script, str(folder / "hosts"), *serve]
    with process_pod(folder, command, host, 8080, {}) as pod:
        yield pod


def write_hosts(folder: Path, hosts: Mapping[str, Sequence[str]]) -> None:
    """Change the names of the router in `folder`; the file stays the same one, since it is bind-mounted."""
    lines = [f"{address} {name}" for name, addresses in hosts.items() for address in addresses]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
