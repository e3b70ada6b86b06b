"""What a training run learns, from what, and how it is kept: the part of a DiffusionTraining that its pods read.

The operator writes this document as `run.json` into a ConfigMap and the trainer parses it again. The names are those
of `DiffusionTraining.spec`, so a user can read one beside the other. Units and ranges stand in the CRD.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from diffusion_contract.frozen_model import FrozenModel, Misfit
from diffusion_contract.text_form import TextForm

RUN_CONFIG_KEY = "run.json"
"""Key of the run's ConfigMap under which the document stands."""

MOST_STEPS = 1_000_000_000
MOST_SAMPLES = 1_000_000
"""Most optimizer steps of a run, and samples of one step: their product stays a whole number wherever it is read."""

LONGEST_INTERVAL_SECONDS = 31_536_000
"""A year."""

Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Sha256 = Annotated[
    str,
    Field(max_length=71),
    TextForm(
        r"^sha256:[0-9a-f]{64}$", "a digest is sha256: and then 64 hexadecimal digits in lower case: copy it whole"
    ),
]


class DenoiserSpec(FrozenModel):
    """The network. `config` holds the library's own keys (diffusers' UNet2DModel) or those of our DiT."""

    type: Literal["UNet2DModel", "DiT"] = "UNet2DModel"
    sample_size: Annotated[int, Field(ge=4, le=1024)] = 8
    channels: Annotated[int, Field(ge=1, le=16)] = 1
    config: dict[str, JsonValue] = Field(default_factory=dict)


class ConditioningSpec(FrozenModel):
    """What the network is told besides the noisy sample; `dropout` is the share of labels made the null class."""

    type: Literal["None", "Class"] = "None"
    classes: Annotated[int, Field(ge=2, le=100_000)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _classes_belong_to_class_conditioning(self) -> "ConditioningSpec":
        if (self.type == "Class") != (self.classes is not None):
            raise Misfit("classes", "classes goes with type Class: set both, or neither")
        if self.type != "Class" and self.dropout != ConditioningSpec.model_fields["dropout"].default:
            raise Misfit("dropout", "dropout goes with type Class: remove dropout, or set type to Class")
        return self


class ModelSpec(FrozenModel):
    """The denoiser and its conditioning."""

    denoiser: DenoiserSpec = DenoiserSpec()
    conditioning: ConditioningSpec = ConditioningSpec()


class ScheduleSpec(FrozenModel):
    """The noise schedule. The betas belong to Linear; `shift` belongs to FlowMatching."""

    type: Literal["Linear", "Cosine", "FlowMatching"] = "Linear"
    timesteps: Annotated[int, Field(ge=10, le=10_000)] = 1000
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 0.0001
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    shift: Annotated[float, Field(gt=0, le=100)] = 1.0

    @model_validator(mode="after")
    def _parameters_belong_to_the_type(self) -> "ScheduleSpec":
        plain = ScheduleSpec.model_construct()
        if self.beta_start >= self.beta_end:
            raise Misfit("betaStart", "betaStart must be below betaEnd")
        if self.type != "Linear" and (self.beta_start, self.beta_end) != (plain.beta_start, plain.beta_end):
            raise Misfit("type", "betaStart and betaEnd go with type Linear: remove them, or set type to Linear")
        if self.type != "FlowMatching" and self.shift != plain.shift:
            raise Misfit("shift", "shift goes with type FlowMatching: remove shift, or set type to FlowMatching")
        return self


class DiffusionSpec(FrozenModel):
    """The forward process and what the network predicts."""

    schedule: ScheduleSpec = ScheduleSpec()
    prediction: Literal["Epsilon", "Flow"] = "Epsilon"

    @model_validator(mode="after")
    def _flow_goes_with_flow_matching(self) -> "DiffusionSpec":
        if (self.prediction == "Flow") != (self.schedule.type == "FlowMatching"):
            raise Misfit(
                "prediction",
                "prediction Flow goes with schedule.type FlowMatching, and Epsilon with Linear or Cosine: "
                "change one of the two",
            )
        return self


class DatasetSpec(FrozenModel):
    """Where the samples are: `builtin://digits`, or `file:///path` of a folder or an `.npz`, with its digest."""

    uri: Annotated[
        str,
        Field(max_length=1024),
        TextForm(
            r"^(builtin://digits|file:///[^\x00-\x1f\x7f?#]+)$",
            "uri must be builtin://digits, or the absolute path of a folder or an .npz, for example "
            "file:///data/images.npz, in which ? and # are written %3F and %23",
        ),
    ]
    digest: Sha256 | None = None


class OptimizerSpec(FrozenModel):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with a clip on the global gradient norm."""

    type: Literal["AdamW"] = "AdamW"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0


class LearningRateScheduleSpec(FrozenModel):
    """Linear warm-up, then constant or a half cosine to zero at the target step."""

    type: Literal["Constant", "Cosine"] = "Constant"
    warmup_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 0


class EMASpec(FrozenModel):
    """Exponential moving average of the weights; the decay ramps up as (1 + n) / (10 + n) to this value."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999


class TrainingSpec(FrozenModel):
    """The optimisation: `global_batch_size` samples a step at every world size, until `target_steps`."""

    target_steps: Steps
    global_batch_size: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    optimizer: OptimizerSpec = OptimizerSpec()
    learning_rate_schedule: LearningRateScheduleSpec = LearningRateScheduleSpec()
    ema: EMASpec = EMASpec()
    precision: Literal["FP32", "BF16", "FP16"] = "FP32"
    strategy: Literal["DDP"] = "DDP"

    @model_validator(mode="after")
    def _warms_up_before_it_ends(self) -> "TrainingSpec":
        if self.learning_rate_schedule.warmup_steps >= self.target_steps:
            raise Misfit("learningRateSchedule.warmupSteps", "warmupSteps must be below targetSteps")
        return self


class CheckpointInterval(FrozenModel):
    """Save every so many optimizer steps, or every so many seconds: one of the two."""

    steps: Steps | None = None
    seconds: Annotated[int, Field(ge=1, le=LONGEST_INTERVAL_SECONDS)] | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "CheckpointInterval":
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("set exactly one of steps and seconds")
        return self


class Retention(FrozenModel):
    """How many of the newest checkpoints stay. The newest verified one always stays besides."""

    last: Annotated[int, Field(ge=2, le=1000)] = 3


class CheckpointSpec(FrozenModel):
    """When the run saves, whether it saves on a preemption notice, and what it keeps."""

    interval: CheckpointInterval = CheckpointInterval(seconds=300)
    on_preemption: bool = True
    retain: Retention = Retention()


class PublishTarget(FrozenModel):
    """The model version's name inside the OCI image layout on the volume `claim`, mounted at MODELS_DIRECTORY."""

    claim: str
    name: str
    license: str | None = None
    intended_use: str | None = None


class RunConfig(FrozenModel):
    """One run, as its pods see it. Everything here is the same for every worker and for every attempt."""

    name: str
    namespace: str
    uid: str
    model: ModelSpec
    diffusion: DiffusionSpec
    dataset: DatasetSpec
    training: TrainingSpec
    checkpoint: CheckpointSpec
    publish: PublishTarget | None = None
