"""What the router pods of a DiffusionService say: which revisions requests go to, and how many engines answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from diffusion_contract.agent_messages import RouterReport
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.raw_values import condition_of, text_at
from diffusion_operator.observe.snapshot import Raw


@dataclass(frozen=True)
class RouterFacts:
    """One router pod that has not ended.

    `ready`: clients' requests reach it. One that starts or ends is not, nor is one whose node is silent: the Service
    leaves it out. `routed`, `ready_engines`: its last word about where requests go and how many engines of a revision
    answer; None and nothing while it has not said so to this operator. `connected`: whether that word is of now.
    """

    name: str
    uid: str
    ready: bool = True
    routed: tuple[str, ...] | None = None
    ready_engines: Mapping[str, int] = field(default_factory=dict)
    connected: bool = False

    def sends_all_to(self, revision: str) -> bool:
        """Whether it says so now; one that is silent may do anything."""
        return self.connected and self.routed == (revision,)


def observe_routers(pods: Iterable[Raw], records: Mapping[str, AgentRecord]) -> tuple[RouterFacts, ...]:
    """The facts about router pods, in their order, without those that have ended; `records` are by pod UID."""
    return tuple(_router(pod, records) for pod in pods if _is_there(pod))


def _is_there(pod: Raw) -> bool:
    return bool(text_at(pod, "metadata", "uid")) and text_at(pod, "status", "phase") not in ("Succeeded", "Failed")


def _router(pod: Raw, records: Mapping[str, AgentRecord]) -> RouterFacts:
    name, uid = text_at(pod, "metadata", "name"), text_at(pod, "metadata", "uid")
    ready = condition_of(pod, "Ready").get("status") == "True"
    record = records.get(uid)
    if record is None or not isinstance(record.report, RouterReport):
        return RouterFacts(name, uid, ready)
    said = record.report
    return RouterFacts(name, uid, ready, said.routed, said.ready_engines, record.connected)
