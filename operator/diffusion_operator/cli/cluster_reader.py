"""What the plugin reads from a cluster, with the official client and the user's own kubeconfig and rights."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from diffusion_contract.names import GROUP, SERVICE_LABEL, TRAINING_LABEL, VERSION
from diffusion_operator.cli.kind_words import kind_of
from diffusion_operator.kube.resources import CUSTOM_RESOURCES
from diffusion_operator.observe.creation_failures import last_seen
from diffusion_operator.observe.snapshot import Raw

_LABELS = {"DiffusionTraining": TRAINING_LABEL, "DiffusionService": SERVICE_LABEL}
_TIMEOUT = {"_request_timeout": 10}
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
_UNUSABLE = (config.ConfigException, OSError, ValueError, yaml.YAMLError, TypeError)
"""What the official client raises for a kubeconfig that it cannot use; TypeError where it is YAML of another shape."""
_RAW = {"_preload_content": False, **_TIMEOUT}


class NotThere(Exception):
    """There is nothing by that name, or no such context: the user can put it right."""


class Unreadable(Exception):
    """The API server did not answer, or said no."""


class ClusterReader:
    """Reads trainings, services, their pods and events. `namespace` is the given one, or the context's."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        try:
            self._client = config.new_client_from_config(kubeconfig, context)
            contexts, active = config.list_kube_config_contexts(kubeconfig)
        except _UNUSABLE as error:
            why = f"{kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION}: {' '.join(str(error).split())}".rstrip(".")
            raise NotThere(f"no usable kubeconfig: {why}. Name another by KUBECONFIG or --kubeconfig") from error
        chosen = next((item for item in contexts if item["name"] == context), active)
        self.namespace: str = namespace or chosen["context"].get("namespace") or "default"

    def list(self, namespace: str | None) -> list[Raw]:
        """All trainings and services of one namespace, or of all."""
        found: list[Raw] = []
        api = client.CustomObjectsApi(self._client)
        for resource in CUSTOM_RESOURCES:
            plural = resource.plural
            with self._readable(plural):
                if namespace:
                    page = api.list_namespaced_custom_object(GROUP, VERSION, namespace, plural, **_TIMEOUT)
                else:
                    page = api.list_cluster_custom_object(GROUP, VERSION, plural, **_TIMEOUT)
            found += [{**_printable(item), "kind": resource.kind} for item in page["items"]]
        return found

    def named(self, name: str, kind: str | None) -> Sequence[Raw]:
        """The training and the service by that name, whichever exist. Raises NotThere when there is none."""
        found = [
            item
            for item in self.list(self.namespace)
            if item["metadata"]["name"] == name and kind in (None, item["kind"].removeprefix("Diffusion").lower())
        ]
        if not found:
            what = f"diffusion {kind}" if kind else "diffusion training or service"
            hint = f" (a name goes after the kind: {name} NAME)" if kind is None and kind_of(name) else ""
            raise NotThere(f"there is no {what} called {name!r} in the namespace {self.namespace!r}{hint}")
        return found

    def pods(self, item: Raw) -> Sequence[Raw]:
        """The pods that carry the custom resource's label."""
        selector = f"{_LABELS[item['kind']]}={item['metadata']['name']}"
        api = client.CoreV1Api(self._client)
        with self._readable("pods"):
            answer = api.list_namespaced_pod(self.namespace, label_selector=selector, **_RAW)
        return sorted(_items(answer), key=lambda pod: str(pod["metadata"]["name"]))

    def events(self, item: Raw) -> Sequence[Raw]:
        """Events about the custom resource, oldest first; none where the user may not read them."""
        selector = f"regarding.uid={item['metadata']['uid']}"
        api = client.EventsV1Api(self._client)
        try:
            with self._readable("events"):
                answer = api.list_namespaced_event(self.namespace, field_selector=selector, **_RAW)
        except Unreadable:
            return []
        return sorted(_items(answer), key=last_seen)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            missing = " (are the CRDs installed?)" if error.status == 404 else ""
            raise Unreadable(f"{what} cannot be read: {error.status} {error.reason}{missing}") from error
        except HTTPError as error:
            host = self._client.configuration.host
            raise Unreadable(f"the API server at {host} does not answer: {error}") from error


def _items(answer: Any) -> Sequence[Raw]:
    """The objects in the undecoded answer to a list request."""
    return [_printable(item) for item in json.loads(answer.data)["items"]]


def _printable(value: Any) -> Any:
    """The same document without control characters: whoever may write an object does not command the terminal."""
    if isinstance(value, str):
        return value.translate(_CONTROLS)
    if isinstance(value, dict):
        return {key: _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value
