"""The model card: README.md of a model version, from its lineage, in the sections of Mitchell et al. (1810.03993).

Everything in it is taken from the config blob, so the card cannot say what the lineage does not. Its front matter is
the one that model hubs read.
"""

import json
from pathlib import Path

from diffusion_contract.model_version import ModelVersionConfig
from diffusion_contract.run_config import TrainingSpec

CARD_FILE = "README.md"


def write_model_card(folder: Path, config: ModelVersionConfig) -> None:
    """Write the card into a model folder; do so before publishing it."""
    (folder / CARD_FILE).write_text(model_card(config))


def model_card(config: ModelVersionConfig) -> str:
    """The card as Markdown. The same config gives the same text."""
    lineage = config.lineage
    sections = {
        "Model": _model_facts(config),
        "Intended use": [" ".join((config.intended_use or "Not stated by the publisher.").split())],
        "Training data": [
            _fact("Dataset", lineage.dataset.uri),
            _fact("Digest", lineage.dataset.digest),
            _fact("Samples", f"{lineage.dataset.samples:,}"),
        ],
        "Training": [
            _fact("Run", f"{lineage.run.namespace}/{lineage.run.name} ({lineage.run.uid})"),
            _fact("Run configuration", lineage.run.config_digest),
            _fact("Settings", _settings(lineage.run.training)),
            _fact("Code version", lineage.run.code_version),
            _fact("Checkpoint", f"step {lineage.checkpoint.step}, {lineage.checkpoint.digest}"),
            _fact("Samples seen", f"{lineage.samples_seen:,}"),
        ],
        "Metrics": [_fact(name, f"{value:.6g}") for name, value in sorted(lineage.metrics.items())] or ["None."],
        "Limits": [
            "- It draws what its training data holds, biases and gaps included, and nothing else.",
            "- Metrics are those of the run. They were not measured for any use other than the intended one.",
            "- Load it only after its digest was verified.",
        ],
    }
    front = [
        "---",
        f"license: {json.dumps(config.license or 'unknown')}",
        "library_name: diffusers",
        "tags: [diffusion]",
        "---",
    ]
    body = [line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)]
    return "\n".join([*front, "", f"# {lineage.run.name}", *body]) + "\n"


def _model_facts(config: ModelVersionConfig) -> list[str]:
    denoiser, conditioning = config.model.denoiser, config.model.conditioning
    told = "none" if conditioning.classes is None else f"{conditioning.classes} classes"
    return [
        _fact("Denoiser", denoiser.type),
        _fact("Pictures", f"{denoiser.sample_size}x{denoiser.sample_size}, {denoiser.channels} channel(s)"),
        _fact("Conditioning", told),
        _fact("Noise schedule", config.diffusion.schedule.type),
        _fact("Prediction", config.diffusion.prediction),
        _fact("License", config.license or "not stated"),
        _fact("Created", config.created),
    ]


def _settings(training: TrainingSpec) -> str:
    optimizer, schedule = training.optimizer, training.learning_rate_schedule.type
    return (
        f"{training.target_steps} steps of {training.global_batch_size} samples, seed {training.seed}, "
        f"{optimizer.type} at {optimizer.learning_rate:g} ({schedule}), average {training.ema.decay:g}, "
        f"{training.precision}"
    )


def _fact(name: str, value: str) -> str:
    return f"- {name}: {' '.join(value.split())}"
