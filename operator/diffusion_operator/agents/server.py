"""The agent API: `POST /v1/poll` over TLS. A pod is known by its token and by its UID in the informer's store.

401  the token is missing, wrong, or meant for someone else
403  the token is good, but it is not one of a pod that this operator made
413  the body is longer than MAX_REPORT_BYTES
422  the body is not a PollRequest, or asks to be held for longer than that allows
503  the pod is not known yet, or the API server could not be asked: try again
"""

import orjson
from aiohttp import web

from diffusion_contract.agent_channel import POLL_PATH
from diffusion_contract.agent_messages import PollRequest
from diffusion_operator.agents.authentication import Authentication, Caller, Unauthenticated
from diffusion_operator.agents.reports import Reports
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.keys import Key, keys_named_by
from diffusion_operator.kube.resources import POD
from diffusion_operator.kube.store import Store
from diffusion_operator.loop.clock import Clock

MAX_REPORT_BYTES = 256 * 1024


class Membership:
    """Which custom resource a caller's pod belongs to, by the pod's UID in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def key_of(self, caller: Caller) -> Key:
        """The custom resource. Raises web.HTTPForbidden, or web.HTTPServiceUnavailable for a pod not yet heard of."""
        if not caller.pod_uid:
            raise web.HTTPForbidden(text=f"the token of {caller.user} is not bound to a pod")
        pod = self._store.get(POD, caller.namespace, caller.pod_name)
        if pod is None or pod["metadata"]["uid"] != caller.pod_uid:
            raise web.HTTPServiceUnavailable(text=f"no pod {caller.pod_name} with UID {caller.pod_uid} is known here")
        for key in keys_named_by(pod):
            return key
        raise web.HTTPForbidden(text=f"the pod {caller.pod_name} does not belong to a custom resource of ours")


def agent_app(
    authentication: Authentication, membership: Membership, reports: Reports, clock: Clock
) -> web.Application:
    """The application with its one route."""

    async def poll(request: web.Request) -> web.Response:
        caller = await _caller(authentication, request)
        key = membership.key_of(caller)
        try:
            asked = PollRequest.model_validate_json(await request.read())
        except ValueError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from error
        answer = await reports.exchange(key, caller.pod_uid, asked.report, asked.seen, asked.wait_seconds, clock.now())
        return web.Response(body=orjson.dumps(answer.to_wire()), content_type="application/json")

    app = web.Application(client_max_size=MAX_REPORT_BYTES)
    app.add_routes([web.post(POLL_PATH, poll)])
    return app


async def _caller(authentication: Authentication, request: web.Request) -> Caller:
    try:
        return await authentication.caller(request.headers.get("Authorization"))
    except Unauthenticated as error:
        raise web.HTTPUnauthorized(text=str(error)) from error
    except KubeError as error:
        raise web.HTTPServiceUnavailable(text=f"the token could not be checked: {error}") from error
