"""Objects that a custom resource names and that are not its children: Secrets, claims, other custom resources."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from diffusion_contract.api_key_hash import SHAPE, parse_api_key_hash
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import FINAL_CODES, ApiRefusal
from diffusion_operator.kube.fresh_answers import FreshAnswers
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import CUSTOM_RESOURCES, SECRET, resource_of
from diffusion_operator.kube.store import Store
from diffusion_operator.observe.snapshot import Raw, Reference, Refusal


class LookedUp(NamedTuple):
    """`found`: None where the API server said that there is nothing by that name. `refused`: what we may not read."""

    found: Mapping[Reference, Raw | None]
    refused: tuple[Refusal, ...]


class References:
    """Looks referenced objects up: custom resources in the store, all else by a GET that is good for a few seconds."""

    def __init__(self, client: ApiClient, store: Store) -> None:
        self._client, self._store = client, store
        self._answers = FreshAnswers(self._ask)
        self._used: dict[Key, tuple[Reference, ...]] = {}
        self._users: dict[Reference, set[Key]] = defaultdict(set)

    async def look_up(self, user: Key, wanted: Iterable[Reference]) -> LookedUp:
        """Every reference is either found (or known to be absent) or refused. Raises KubeError where nobody answers."""
        wanted = tuple(wanted)
        self._remember(user, wanted)
        answers = [(reference, await self._one(reference)) for reference in wanted]
        return LookedUp(
            {reference: answer for reference, answer in answers if not isinstance(answer, Refusal)},
            tuple(answer for _, answer in answers if isinstance(answer, Refusal)),
        )

    def users(self, reference: Reference) -> tuple[Key, ...]:
        """The custom resources that refer to this object, as far as they have been looked at."""
        return tuple(sorted(self._users.get(reference, ())))

    def forget(self, user: Key) -> None:
        """The custom resource is gone."""
        self._remember(user, ())

    def _remember(self, user: Key, wanted: tuple[Reference, ...]) -> None:
        for reference in self._used.pop(user, ()):
            self._users[reference].discard(user)
            if not self._users[reference]:
                del self._users[reference]
        for reference in wanted:
            self._users[reference].add(user)
        if wanted:
            self._used[user] = wanted

    async def _one(self, reference: Reference) -> Raw | Refusal | None:
        resource = resource_of(reference.api_version, reference.kind)
        if resource in CUSTOM_RESOURCES:
            return self._store.get(resource, reference.namespace, reference.name)
        return await self._answers.to(reference)

    async def _ask(self, reference: Reference) -> Raw | Refusal | None:
        resource = resource_of(reference.api_version, reference.kind)
        try:
            found = await self._client.get(resource, reference.namespace, reference.name)
        except ApiRefusal as refused:
            if refused.code not in FINAL_CODES:
                raise
            return Refusal(reference.kind, reference.name, refused.code, refused.message, is_read=True)
        return _without_values(found) if found is not None and resource == SECRET else found


def _without_values(secret: Raw) -> Raw:
    """The Secret as plans may see it: of each value only whether it has the form of an API key's hash."""
    metadata = {**secret["metadata"]}
    metadata.pop("managedFields", None)
    metadata.pop("annotations", None)  # kubectl apply keeps a copy of the values there.
    data = {name: SHAPE if _is_key_hash(value) else "" for name, value in (secret.get("data") or {}).items()}
    return {**secret, "metadata": metadata, "data": data}


def _is_key_hash(encoded: str) -> bool:
    stored = base64.b64decode(encoded).decode(errors="replace")
    return parse_api_key_hash(stored) is not None
