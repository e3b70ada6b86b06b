"""What the API server would say to manifests that are not applied yet, asked by dry runs and remembered.

The same question is not asked twice: an acceptance holds as long as the question is of interest, a refusal for a few
seconds, since what stands behind it (a policy, a namespace's limits) may change. A server that keeps failing at the
question, as with an admission webhook that is away, would fail at the write too: in the end that counts as a refusal.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diffusion_operator.kube.apply import stamped
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import FINAL_CODES, ApiRefusal
from diffusion_operator.kube.failing_writes import FailingWrites
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import resource_of
from diffusion_operator.plan.plan import Manifest, manifest_digest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Answer:
    """`refusal` is empty where the server would take the manifest."""

    at: float
    refusal: str


class Rehearsals:
    """The answers to the newest questions that were asked for each custom resource."""

    def __init__(self, client: ApiClient, refused_seconds: float) -> None:
        self._client, self._refused_seconds = client, refused_seconds
        self._answers: dict[Key, dict[str, _Answer]] = {}
        self._failing = FailingWrites()

    def known(self, key: Key) -> Mapping[str, str]:
        """By the digest of a manifest: why it would be refused, or "" where it would not."""
        return {digest: answer.refusal for digest, answer in self._answers.get(key, {}).items()}

    async def ask(self, key: Key, manifests: Iterable[Manifest]) -> bool:
        """Ask what is not known about `manifests`, and forget all others. Returns whether there is news."""
        before = self.known(key)
        wanted = {manifest_digest(manifest): manifest for manifest in manifests}
        answers = {digest: answer for digest, answer in self._answers.pop(key, {}).items() if digest in wanted}
        if wanted:
            self._answers[key] = answers
        for digest, manifest in wanted.items():
            if digest not in answers or self._is_stale(answers[digest]):
                answers[digest] = _Answer(time.monotonic(), await self._refusal(key, manifest))
        return any(before.get(digest) != answer.refusal for digest, answer in answers.items())

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        self._answers.pop(key, None)
        self._failing.forget(key)

    def _is_stale(self, answer: _Answer) -> bool:
        return bool(answer.refusal) and time.monotonic() - answer.at >= self._refused_seconds

    async def _refusal(self, key: Key, manifest: Manifest) -> str:
        resource, name = resource_of(manifest["apiVersion"], manifest["kind"]), manifest["metadata"]["name"]
        try:
            await self._client.apply(resource, stamped(manifest), dry_run=True)
        except ApiRefusal as refused:
            if refused.code not in FINAL_CODES and not self._failing.failed(key, name):
                raise
            _log.info("%s %s would be refused: %s", manifest["kind"], name, refused)
            return refused.message or refused.reason
        self._failing.succeeded(key, name)
        return ""
