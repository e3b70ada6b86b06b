"""The router's HTTP face: what clients of a DiffusionService talk to."""

import json
import logging
import secrets
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from diffusion_contract.serving_config import RouterConfig
from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.disconnect import while_connected
from diffusion_router.door.guard import Handler, guarded_app
from diffusion_router.door.image_request import ImageRequest, parse_image_request
from diffusion_router.door.limits import RANDOM_SEEDS
from diffusion_router.door.reading import read_json
from diffusion_router.door.request_log import prompt_mark
from diffusion_router.forwarding import Answer, Call, Forwarder
from diffusion_router.front_door import FrontDoor
from diffusion_router.measures import RouterMeasures

_LOGGER = logging.getLogger("diffusion_router.requests")
GENERATIONS = "/v1/images/generations"
MODELS = "/v1/models"
_PASSED_ON = ("content-type", "retry-after", "www-authenticate")


def router_app(
    config: RouterConfig,
    door: FrontDoor,
    forwarder: Forwarder,
    keys: ApiKeys,
    measures: RouterMeasures,
    healthy: Callable[[], bool],
) -> ASGIApp:
    """The application: images and models for whoever has a key, health for everyone."""
    routes = [
        Route(GENERATIONS, _generations(config, door, forwarder, measures), methods=["POST"]),
        Route(MODELS, _models(forwarder), methods=["GET"]),
        Route("/healthz", _healthz(healthy), methods=["GET"]),
        Route("/readyz", _readyz(door), methods=["GET"]),
    ]
    return guarded_app(routes, keys, measures.count_request)


def _generations(config: RouterConfig, door: FrontDoor, forwarder: Forwarder, measures: RouterMeasures) -> Handler:
    async def generations(request: Request) -> Response:
        body = await read_json(request)
        began = time.monotonic()
        asked = _with_seed(parse_image_request(body))
        asked.check_model(config.service)
        service_class = asked.class_with(config.sampling)
        call = _call(request, asked, asked.steps_with(config.sampling))
        with door.passing():
            answer = await while_connected(request, forwarder.send(call))
        seconds = time.monotonic() - began
        measures.seconds.labels(service_class).observe(seconds)
        _log(request, asked, answer, seconds)
        return _passed_on(answer)

    return generations


def _with_seed(asked: ImageRequest) -> ImageRequest:
    """The seed is fixed before an engine is asked, so that a second engine would make the same image."""
    if asked.seed is not None:
        return asked
    return asked.model_copy(update={"seed": secrets.randbelow(RANDOM_SEEDS)})


def _call(request: Request, asked: ImageRequest, steps: int) -> Call:
    body = json.dumps(asked.to_wire()).encode()
    return Call("POST", GENERATIONS, request.headers["authorization"], body, steps * asked.n)


def _passed_on(answer: Answer) -> Response:
    kept = {
        name: value for name, value in answer.headers.items() if name in _PASSED_ON or name.startswith("x-diffusion-")
    }
    return Response(answer.content, answer.status, headers=kept)


def _log(request: Request, asked: ImageRequest, answer: Answer, seconds: float) -> None:
    _LOGGER.info(
        "images key=%s code=%d n=%d seed=%s prompt=%s engine=%s revision=%s digest=%s ms=%.0f",
        request.state.key_owner,
        answer.status,
        asked.n,
        asked.seed,
        prompt_mark(asked.prompt),
        answer.engine,
        answer.headers.get("x-diffusion-revision", "-"),
        answer.headers.get("x-diffusion-model-digest", "-"),
        seconds * 1000,
    )


def _models(forwarder: Forwarder) -> Handler:
    async def models(request: Request) -> Response:
        """An engine knows its model best; any ready one may answer."""
        return _passed_on(await forwarder.send(Call("GET", MODELS, request.headers["authorization"])))

    return models


def _healthz(healthy: Callable[[], bool]) -> Handler:
    async def healthz(_: Request) -> Response:
        well = healthy()
        return JSONResponse({"healthy": well}, status_code=200 if well else 503)

    return healthz


def _readyz(door: FrontDoor) -> Handler:
    async def readyz(_: Request) -> Response:
        return JSONResponse({"ready": door.ready}, status_code=200 if door.ready else 503)

    return readyz
