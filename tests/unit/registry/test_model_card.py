"""The model card says what the config blob says."""

from pathlib import Path

import yaml

from diffusion_registry.model_card import model_card, write_model_card
from tiny_models import SOME_DIGEST, TEN_CLASSES, tiny_unet, version_config

SECTIONS = ["Model", "Intended use", "Training data", "Training", "Metrics", "Limits"]


def front_matter(card: str) -> dict[str, object]:
    front: dict[str, object] = yaml.safe_load(card.split("---")[1])
    return front


def test_every_section_is_there_in_order() -> None:
    titles = [line[3:] for line in model_card(version_config()).splitlines() if line.startswith("## ")]
    assert titles == SECTIONS


def test_the_lineage_is_in_it() -> None:
    card = model_card(version_config(tiny_unet(TEN_CLASSES)))
    for fact in (
        "# digits",
        "- Denoiser: UNet2DModel",
        "- Pictures: 8x8, 1 channel(s)",
        "- Conditioning: 10 classes",
        "- Noise schedule: FlowMatching",
        "- Prediction: Flow",
        "- License: Apache-2.0",
        "- Created: 2026-01-02T03:04:05Z",
        "- Dataset: builtin://digits",
        f"- Digest: {SOME_DIGEST}",
        "- Samples: 1,797",
        "- Run: default/digits (u-1)",
        f"- Run configuration: {SOME_DIGEST}",
        "- Code version: 0.1.0",
        f"- Checkpoint: step 600, {SOME_DIGEST}",
        "- Samples seen: 38,400",
        "- loss: 0.4",
    ):
        assert fact in card.splitlines()


def test_what_was_not_stated_is_said_to_be_so() -> None:
    bare = version_config().model_copy(update={"license": None, "intended_use": None})
    card = model_card(bare.model_copy(update={"lineage": bare.lineage.model_copy(update={"metrics": {}})}))
    assert "- License: not stated" in card
    assert "Not stated by the publisher." in card
    assert "## Metrics\n\nNone.\n" in card
    assert front_matter(card)["license"] == "unknown"


def test_free_text_cannot_break_the_cards_frame() -> None:
    odd = version_config().model_copy(update={"license": "a: b\n# x", "intended_use": "one\n\n## Model\ntwo"})
    card = model_card(odd)
    assert front_matter(card)["license"] == "a: b\n# x"
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == SECTIONS


def test_the_same_config_gives_the_same_file(tmp_path: Path) -> None:
    write_model_card(tmp_path, version_config())
    first = (tmp_path / "README.md").read_bytes()
    write_model_card(tmp_path, version_config())
    assert (tmp_path / "README.md").read_bytes() == first == model_card(version_config()).encode()
