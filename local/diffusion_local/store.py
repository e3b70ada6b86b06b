"""All objects of one kind, as the supervisor knows them: kept current by list and watch."""

from collections.abc import Callable

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import Manifest


class Store:
    """All objects under `path`, by (namespace, name); `changed` is called after each list and each change."""

    def __init__(self, client: ApiClient, path: str, changed: Callable[[], None]) -> None:
        self._client = client
        self._path = path
        self._changed = changed
        self.objects: dict[tuple[str, str], Manifest] = {}

    async def run(self) -> None:
        """Follow the API server until cancelled; an outage keeps what is known."""
        async for change in self._client.follow(self._path):
            if change.kind == "Listed":
                self.objects = {}
            for item in change.items:
                key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
                self.objects.pop(key, None)
                if change.kind != "Gone":
                    self.objects[key] = item
            self._changed()
