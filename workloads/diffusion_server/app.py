"""The engine's HTTP face. The router is its client; the API is the same, so it can also be asked directly."""

import asyncio
import base64
import logging
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.disconnect import while_connected
from diffusion_router.door.guard import Handler, guarded_app
from diffusion_router.door.image_request import ImageRequest, parse_image_request
from diffusion_router.door.reading import read_json
from diffusion_router.door.request_log import prompt_mark
from diffusion_server.engine import Drawing, Engine
from diffusion_server.image_id import image_id
from diffusion_server.measures import EngineMeasures
from diffusion_server.picture import to_png
from diffusion_server.samples import Sample, ServedModel, samples_of

_LOGGER = logging.getLogger("diffusion_server.requests")


def engine_app(engine: Engine, keys: ApiKeys, measures: EngineMeasures) -> ASGIApp:
    """The application: images for whoever has a key, health for everyone."""
    routes = [
        Route("/v1/images/generations", _generations(engine), methods=["POST"]),
        Route("/v1/models", _models(engine), methods=["GET"]),
        Route("/healthz", _healthz(engine), methods=["GET"]),
        Route("/readyz", _readyz(engine), methods=["GET"]),
    ]
    return guarded_app(routes, keys, measures.count_request)


def _generations(engine: Engine) -> Handler:
    async def generations(request: Request) -> Response:
        asked = parse_image_request(await read_json(request))
        asked.check_model(engine.config.service)
        model = engine.opened.model
        samples = samples_of(asked, engine.config.sampling, model)
        service_class = asked.class_with(engine.config.sampling)
        drawing = await while_connected(request, engine.draw(samples, service_class))
        _log(request, asked, model, samples, drawing)
        pngs = await asyncio.to_thread(_encode, drawing, model)
        body = {"created": int(time.time()), "data": _data(samples, pngs, model)}
        return JSONResponse(body, headers=_headers(engine.config.revision, model, samples, drawing))

    return generations


def _encode(drawing: Drawing, model: ServedModel) -> list[str]:
    return [base64.b64encode(to_png(picture, model.width, model.height)).decode() for picture in drawing.pictures]


def _data(samples: Sequence[Sample], pngs: Sequence[str], model: ServedModel) -> list[dict[str, object]]:
    return [
        {"b64_json": png, "seed": sample.seed, "label": sample.label, "id": image_id(model.digest, sample)}
        for sample, png in zip(samples, pngs, strict=True)
    ]


def _headers(revision: str, model: ServedModel, samples: Sequence[Sample], drawing: Drawing) -> dict[str, str]:
    """Where the images came from and how long they took; of several images, the first one's seed and id."""
    return {
        "x-diffusion-revision": revision,
        "x-diffusion-model-digest": model.digest,
        "x-diffusion-seed": str(samples[0].seed),
        "x-diffusion-steps": str(samples[0].steps),
        "x-diffusion-sampler": samples[0].sampler,
        "x-diffusion-queue-ms": str(round(drawing.queue_seconds * 1000)),
        "x-diffusion-compute-ms": str(round(drawing.compute_seconds * 1000)),
        "x-diffusion-cache": "miss",
        "x-diffusion-image-id": image_id(model.digest, samples[0]),
    }


def _log(
    request: Request, asked: ImageRequest, model: ServedModel, samples: Sequence[Sample], drawing: Drawing
) -> None:
    _LOGGER.info(
        "images key=%s n=%d seed=%d label=%s steps=%d guidance=%g prompt=%s digest=%s queue_ms=%.0f compute_ms=%.0f",
        request.state.key_owner,
        len(samples),
        samples[0].seed,
        samples[0].label,
        samples[0].steps,
        samples[0].guidance_scale,
        prompt_mark(asked.prompt),
        model.digest,
        drawing.queue_seconds * 1000,
        drawing.compute_seconds * 1000,
    )


def _models(engine: Engine) -> Handler:
    async def models(_: Request) -> Response:
        model = engine.opened.model
        sampling = engine.config.sampling
        entry = {
            "id": engine.config.service,
            "object": "model",
            "created": 0,
            "owned_by": engine.config.namespace,
            "revision": engine.config.revision,
            "digest": model.digest,
            "size": model.size,
            "labels": model.classes,
            "sampler": sampling.sampler,
            "guidance_scale": sampling.guidance_scale,
            "classes": [{"name": item.name, "steps": item.steps} for item in sampling.classes],
        }
        return JSONResponse({"object": "list", "data": [entry]})

    return models


def _healthz(engine: Engine) -> Handler:
    async def healthz(_: Request) -> Response:
        return JSONResponse({"healthy": engine.healthy}, status_code=200 if engine.healthy else 503)

    return healthz


def _readyz(engine: Engine) -> Handler:
    async def readyz(_: Request) -> Response:
        """Besides yes or no: whose engine this is and how much work it has, which is what the router chooses by."""
        ready = engine.phase == "Ready" and engine.healthy
        said: dict[str, object] = {"ready": ready, "phase": engine.phase, "revision": engine.config.revision}
        if ready:
            said["outstanding_steps"] = engine.opened.loop.load().outstanding_steps
        return JSONResponse(said, status_code=200 if ready else 503)

    return readyz
