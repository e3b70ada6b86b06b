"""Custom resources that may be gone without anybody having told us: whoever makes their children anew asks first.

After a gap in its watch kopf never tells what was deleted meanwhile. Such a ghost would get its children back as often
as the garbage collector takes them. But that it does take them is a hint: a child of it went.
"""

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.keys import Key, keys_named_by, resource_of_key
from diffusion_operator.kube.resources import CUSTOM_RESOURCES
from diffusion_operator.kube.store import Change, Store


class Doubts:
    """Who lost a child since it was last seen at the API server."""

    def __init__(self, client: ApiClient, store: Store) -> None:
        self._client, self._store = client, store
        self._doubted: set[Key] = set()
        store.listeners.append(self._changed)

    async def settle(self, key: Key) -> None:
        """Where there is doubt, read the custom resource again, and put the store right. Raises KubeError."""
        if key not in self._doubted:
            return
        resource = resource_of_key(key)
        known = self._store.get(resource, key.namespace, key.name)
        self._doubted.discard(key)  # Another child may go while we ask, and a namesake may come: it is not doubted.
        try:
            found = await self._client.get(resource, key.namespace, key.name)
        except KubeError:
            self._doubted.add(key)
            raise
        if known is not None and (found is None or found["metadata"]["uid"] != known["metadata"]["uid"]):
            self._store.remove(resource, known)
        if found is not None:
            self._store.put(resource, found)

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        self._doubted.discard(key)

    def _changed(self, change: Change) -> None:
        if change.new is not None or change.resource in CUSTOM_RESOURCES:
            return
        owners = {owner["uid"] for owner in change.object["metadata"].get("ownerReferences", ())}
        for key in keys_named_by(change.object):
            known = self._store.get(resource_of_key(key), key.namespace, key.name)
            if known is not None and known["metadata"]["uid"] in owners:
                self._doubted.add(key)
