"""/metrics, for those who may read it: the caller's token is reviewed, and the right to `get` /metrics is asked for."""

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from diffusion_operator.agents.authentication import Authentication, Caller, Unauthenticated
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.resources import ACCESS_REVIEW


def metrics_app(registry: CollectorRegistry, client: ApiClient | None) -> web.Application:
    """The application with its one route. `client` asks who may read; None lets everyone."""
    authentication = Authentication(client) if client is not None else None

    async def metrics(request: web.Request) -> web.Response:
        if client is not None and authentication is not None:
            await _admit(request, client, authentication)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    return app


async def _admit(request: web.Request, client: ApiClient, authentication: Authentication) -> None:
    try:
        caller = await authentication.caller(request.headers.get("Authorization"))
        allowed = await _may_read(client, caller)
    except Unauthenticated as error:
        raise web.HTTPUnauthorized(text=str(error)) from error
    except KubeError as error:
        raise web.HTTPServiceUnavailable(text=f"the caller could not be checked: {error}") from error
    if not allowed:
        raise web.HTTPForbidden(text=f"{caller.user} may not get the URL /metrics")


async def _may_read(client: ApiClient, caller: Caller) -> bool:
    spec = {
        "user": caller.user,
        "groups": list(caller.groups),
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }
    manifest = {"apiVersion": ACCESS_REVIEW.api_version, "kind": ACCESS_REVIEW.kind, "spec": spec}
    review = await client.create(ACCESS_REVIEW, manifest)
    return bool(review.get("status", {}).get("allowed"))
