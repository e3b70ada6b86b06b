"""Who is asking: a projected token becomes the pod that it was issued to, or a refusal with its reason."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import TOKEN_REVIEW

GOOD_SECONDS = 60.0
"""How long the API server's yes is believed. A pod that is gone is refused at once, by the informer."""
_REMEMBERED = 4096
_SERVICE_ACCOUNT = "system:serviceaccount:"
"""What the name of a user begins with that is the service account of a namespace."""


class Unauthenticated(Exception):
    """The token says nothing that is accepted here; says what is wrong."""


@dataclass(frozen=True)
class Caller:
    """Whom the API server named. Pod fields are empty where the token is not bound to a pod."""

    user: str
    groups: tuple[str, ...]
    namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""


class Authentication:
    """TokenReviews with a short memory. Tokens are kept only as hashes."""

    def __init__(self, client: ApiClient, audiences: Sequence[str] = ()) -> None:
        self._client, self._audiences = client, list(audiences)
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def caller(self, authorization: str | None) -> Caller:
        """The bearer of an Authorization header. Raises Unauthenticated, or KubeError where nobody could be asked."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("no bearer token")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        at, known = self._known.get(digest, (float("-inf"), None))
        if known is not None and time.monotonic() - at < GOOD_SECONDS:
            return known
        caller = await self._review(token.strip())
        self._known[digest] = (time.monotonic(), caller)
        self._known.move_to_end(digest)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return caller

    async def _review(self, token: str) -> Caller:
        spec = {"token": token} | ({"audiences": self._audiences} if self._audiences else {})
        manifest = {"apiVersion": TOKEN_REVIEW.api_version, "kind": TOKEN_REVIEW.kind, "spec": spec}
        status = (await self._client.create(TOKEN_REVIEW, manifest)).get("status", {})
        if not status.get("authenticated"):
            raise Unauthenticated(status.get("error") or "the API server does not know this token")
        if self._audiences and not set(self._audiences) & set(status.get("audiences", ())):
            raise Unauthenticated(f"the token is not meant for {', '.join(self._audiences)}")
        user = status["user"]
        name, extra = user.get("username", ""), user.get("extra") or {}
        is_account = name.startswith(_SERVICE_ACCOUNT)
        return Caller(
            user=name,
            groups=tuple(user.get("groups", ())),
            namespace=name.removeprefix(_SERVICE_ACCOUNT).split(":")[0] if is_account else "",
            pod_name=(extra.get("authentication.kubernetes.io/pod-name") or [""])[0],
            pod_uid=(extra.get("authentication.kubernetes.io/pod-uid") or [""])[0],
        )
