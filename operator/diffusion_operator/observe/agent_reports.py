"""What is known about the agent in a pod from its own reports. Lost with the process; a missing record is unknown."""

from dataclasses import dataclass
from datetime import datetime

from diffusion_contract.agent_messages import Report


@dataclass(frozen=True)
class AgentRecord:
    """The newest report of one pod's agent.

    `received`: when it came (UTC). `connected`: a poll is held open now, or was answered so lately that the next one
    is due. Losing the connection is a hint, not a death.
    `advanced`: when it first told of the step, state and generation at which it still is; None for `received`.
    """

    pod_uid: str
    report: Report
    received: datetime
    connected: bool = True
    advanced: datetime | None = None
