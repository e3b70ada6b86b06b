"""DiffusionService as the loop knows it."""

from diffusion_operator.children.service_names import KIND
from diffusion_operator.observe.service_world import ServiceWorld, observe_service, references
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.service import decide_service

SERVICE: Kind[ServiceWorld] = Kind(
    kind=KIND,
    observe=observe_service,
    decide=decide_service,
    references=references,
)
