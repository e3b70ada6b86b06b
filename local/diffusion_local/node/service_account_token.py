"""Service-account tokens for projected volumes, by TokenRequest, renewed when four fifths of their life are over."""

import json
from dataclasses import dataclass

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import parse_moment

RENEWED_AFTER = 0.8
DEFAULT_SECONDS = 3600


@dataclass(frozen=True)
class Token:
    """A token and the moment from which a new one is due."""

    text: str
    renew_at: float


def source_key(source: Manifest) -> str:
    """Names a serviceAccountToken source."""
    return json.dumps(source, sort_keys=True)


class TokenSource:
    """The tokens of one pod."""

    def __init__(self, api: ApiClient, pod: Manifest) -> None:
        self.api = api
        self.pod = pod
        self.tokens: dict[str, Token] = {}

    async def refresh(self, sources: list[Manifest], now: float) -> None:
        """Ask for every token that is missing or due. Raises ApiError and ApiUnavailable."""
        for source in sources:
            held = self.tokens.get(source_key(source))
            if held is None or now >= held.renew_at:
                self.tokens[source_key(source)] = await self.requested(source, now)

    async def requested(self, source: Manifest, now: float) -> Token:
        """One new token, bound to the pod."""
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        wanted = {
            "audiences": [source["audience"]] if source.get("audience") else [],
            "expirationSeconds": source.get("expirationSeconds") or DEFAULT_SECONDS,
            "boundObjectRef": reference,
        }
        account = spec.get("serviceAccountName") or "default"
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        status = (await self.api.request("POST", path, body))["status"]
        lifetime = parse_moment(status["expirationTimestamp"]) - now
        return Token(status["token"], now + RENEWED_AFTER * lifetime)

    def text(self, source: Manifest) -> str:
        """The held token of a source that was refreshed."""
        return self.tokens[source_key(source)].text

    @property
    def next_renewal(self) -> float:
        """When the next token is due; infinity when there is none."""
        return min((token.renew_at for token in self.tokens.values()), default=float("inf"))
