"""What the operator knows about itself and passes on to the children that it builds."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class OperatorFacts:
    """The running operator's settings that reach pods.

    `agent_url`: `https://HOST:PORT` of the agent API. `agent_ca`: PEM of the authority that signs its certificate (may
    hold two while one is being replaced). Images: the defaults for a custom resource that names none.
    `listening_since`: from when on agents could reach this process; None where that is not known.
    """

    namespace: str
    agent_url: str
    agent_ca: str
    trainer_image: str
    server_image: str
    router_image: str
    listening_since: datetime | None = None
