"""The cluster as a reconcile uses it: take a snapshot of one custom resource, and carry out a plan step by step."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from diffusion_operator.kube.apply import stamped, why_to_send
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.creation_failures import CreationFailures
from diffusion_operator.kube.doubts import Doubts
from diffusion_operator.kube.errors import ApiRefusal, NotFound
from diffusion_operator.kube.events import Events
from diffusion_operator.kube.keys import Key, resource_of_key
from diffusion_operator.kube.likeness import first_difference
from diffusion_operator.kube.own_writes import OwnWrites
from diffusion_operator.kube.references import References
from diffusion_operator.kube.rehearsals import Rehearsals
from diffusion_operator.kube.resources import (
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NODE,
    POD,
    SERVICE,
    Resource,
    resource_of,
)
from diffusion_operator.kube.store import Store
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.snapshot import PodName, Raw, Refusal, Snapshot, Sought
from diffusion_operator.plan.plan import Event, Manifest, ObjectReference

REFUSED = 10.0
"""Seconds until what was refused is tried again: a quota may have been raised since."""

_INVALID = 422

_SET_BACK = frozenset({SERVICE, DEPLOYMENT, DISRUPTION_BUDGET})
"""Kinds of children whose spec may be written anew at any time; that of others is fixed, or has parts of others."""

_NAMED_BY_USERS_TOO = frozenset({"PersistentVolumeClaim"})
"""Kinds of children whose names hold no UID, so that one by the same name may be somebody else's."""


class Cluster:
    """Reads from the store, writes through the client, and remembers what it wrote."""

    def __init__(self, client: ApiClient, store: Store, facts: OperatorFacts, instance: str) -> None:
        self.store, self.facts = store, facts
        self._client = client
        self.references = References(client, store)
        self._events = Events(client, instance)
        self._creation_failures = CreationFailures(client)
        self._writes = OwnWrites(store)
        self._refusals: dict[Key, tuple[Refusal, ...]] = {}
        self._rehearsals = Rehearsals(client, REFUSED)
        self._doubts = Doubts(client, store)

    async def snapshot(self, key: Key, sought: Sought) -> Snapshot | None:
        """The custom resource with its children, their nodes, and what else is sought; None where it is gone."""
        await self._doubts.settle(key)
        custom_resource = self.store.get(resource_of_key(key), key.namespace, key.name)
        if custom_resource is None:
            return None
        looked_up = await self.references.look_up(key, sought.references(custom_resource))
        family = tuple(self._family(custom_resource["metadata"]["uid"]))
        children = (*family, *self._others(family, key.namespace, sought.members(custom_resource)))
        names = {child["spec"].get("nodeName") for child in children if child["kind"] == POD.kind}
        nodes = {name: node for name in names if name and (node := self.store.get(NODE, "", name)) is not None}
        failures = await self._creation_failures.look_up(key.namespace, sought.short_of_pods(children))
        return Snapshot(
            custom_resource=custom_resource,
            operator=self.facts,
            children=children,
            nodes=nodes,
            referenced=looked_up.found,
            refusals=(*looked_up.refused, *self._refusals.get(key, ())),
            has_applied=key in self._refusals,
            rehearsals=self._rehearsals.known(key),
            creation_failures=failures,
        )

    def remember_refusals(self, key: Key, refusals: tuple[Refusal, ...]) -> bool:
        """Keep what was refused in this pass for the next one to see. Returns whether that is news.

        After the first pass of this process it always is: until then a stored refusal could not be doubted.
        """
        is_news = self._refusals.get(key) != refusals
        self._refusals[key] = refusals
        return is_news

    async def rehearse(self, key: Key, manifests: Iterable[Manifest]) -> bool:
        """Ask whether these would be taken, for the next pass to see. Returns whether there is news."""
        return await self._rehearsals.ask(key, manifests)

    def is_behind_our_last_write(self, key: Key) -> bool:
        """Whether the store has yet to show something that was written for this custom resource."""
        return self._writes.is_ahead(key)

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        self._writes.forget(key)
        self.references.forget(key)
        self._refusals.pop(key, None)
        self._rehearsals.forget(key)
        self._doubts.forget(key)

    async def apply(self, key: Key, manifest: Manifest) -> str | None:
        """Bring the object to what the manifest says. Returns why something was sent; None where nothing was."""
        resource, sent = resource_of(manifest["apiVersion"], manifest["kind"]), stamped(manifest)
        metadata = sent["metadata"]
        live = self.store.get(resource, metadata.get("namespace", ""), metadata["name"])
        why = why_to_send(sent, live)
        if live is None and manifest["kind"] in _NAMED_BY_USERS_TOO:
            await self._refuse_to_take_over(resource, sent)
        if why is not None:
            self._writes.note(key, resource, await self._send(resource, sent, live))
        return why

    async def _send(self, resource: Resource, sent: Manifest, live: Raw | None) -> Raw:
        """Apply. What others put beside ours stays there, or clashes with it: then the spec is set back as a whole.

        A port whose number was edited is such a thing, or a probe of another type.
        """
        try:
            written = await self._client.apply(resource, sent)
        except ApiRefusal as refused:
            if refused.code != _INVALID or live is None or resource not in _SET_BACK:
                raise
        else:
            if live is None or resource not in _SET_BACK or not first_difference(sent["spec"], written.get("spec")):
                return written
        return await self._client.replace_spec(resource, sent)

    async def _refuse_to_take_over(self, resource: Resource, sent: Manifest) -> None:
        """An object by our child's name that somebody else made stays theirs: raises ApiRefusal."""
        metadata = sent["metadata"]
        found = await self._client.get(resource, metadata.get("namespace", ""), metadata["name"])
        owners = (found or {"metadata": {}})["metadata"].get("ownerReferences", [])
        ours = {owner["uid"] for owner in metadata.get("ownerReferences", [])}
        if found is not None and ours.isdisjoint(owner["uid"] for owner in owners):
            what = f"{sent['kind']} {metadata['name']}"
            raise ApiRefusal(409, "AlreadyExists", f"{what} exists and belongs to somebody else: rename or delete it")

    async def put_status(self, key: Key, seen: Raw, status: Manifest) -> None:
        """Store the status: whole, in one write, only where it differs, and never over a version that was not `seen`.

        Raises Conflict where the custom resource is no longer as it was seen: look again, decide again. Raises NotFound
        where it is gone; then it is gone from the store too.
        """
        if seen.get("status", {}) == status:
            return
        resource = resource_of_key(key)
        try:
            written = await self._client.replace(resource, {**seen, "status": status}, "status")
        except NotFound:
            self.store.remove(resource, seen)
            raise
        self._writes.note(key, resource, written)

    async def event(self, about: Raw, event: Event, now: datetime) -> None:
        """Record an event about the custom resource."""
        await self._events.record(about, event, now)

    async def delete(self, key: Key, reference: ObjectReference) -> bool:
        """Delete what was seen, as it was seen. False where it is no longer so; absence is success.

        A Job stays until its pods have ended, and by it we see those that still run.
        """
        resource = resource_of(reference.api_version, reference.kind)
        is_gone = await self._client.delete(resource, reference, "Foreground" if resource == JOB else "Background")
        if is_gone:
            self._writes.note_deleted(key, resource, reference)
        return is_gone

    def _family(self, uid: str) -> Iterator[Raw]:
        for _, child in self.store.owned_by(uid):
            yield child
            yield from self._family(child["metadata"]["uid"])

    def _others(self, family: Iterable[Raw], namespace: str, members: Iterable[PodName]) -> Iterator[Raw]:
        """Members that are there, but no longer by way of an owner: their Job was deleted or lost its label."""
        seen = {child["metadata"]["uid"] for child in family}
        for name, uid in members:
            pod = self.store.get(POD, namespace, name)
            if pod is not None and pod["metadata"]["uid"] == uid and uid not in seen:
                yield pod
