"""DiffusionTraining as the loop knows it."""

from diffusion_operator.children.training_names import KIND
from diffusion_operator.observe.creation_failures import jobs_short_of_pods
from diffusion_operator.observe.training_world import TrainingWorld, members, observe_training, references
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.training import decide_training

TRAINING: Kind[TrainingWorld] = Kind(
    kind=KIND,
    observe=observe_training,
    decide=decide_training,
    references=references,
    members=members,
    short_of_pods=jobs_short_of_pods,
)
