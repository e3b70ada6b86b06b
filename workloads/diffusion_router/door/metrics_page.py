"""`GET /metrics` on a port of its own, behind the same keys."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.guard import guarded_app


def metrics_app(registry: CollectorRegistry, keys: ApiKeys) -> ASGIApp:
    """An application that shows `registry` in Prometheus' text format to whoever has a key."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return guarded_app([Route("/metrics", metrics)], keys, count=lambda _path, _status: None)
