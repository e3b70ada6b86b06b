"""Denoisers by spec: what is built, what is refused, and that the refusal names the key."""

from typing import Any

import pytest
import torch
from pydantic import JsonValue
from torch import nn

from diffusion_contract.run_config import ConditioningSpec, DenoiserSpec, ModelSpec
from diffusion_core.denoisers import NULL_LABEL, ConfigRefused, Denoiser, build_denoiser, check_denoiser
from tiny_models import TEN_CLASSES, TINY_UNET, UNCONDITIONAL, tiny_dit, tiny_unet, weights_of

CONFIG = "spec.model.denoiser.config"


def weight_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def refusal(config: dict[str, JsonValue], kind: str = "UNet2DModel", size: int = 8) -> ConfigRefused:
    spec = DenoiserSpec.model_validate({"type": kind, "sampleSize": size, "config": config})
    with pytest.raises(ConfigRefused) as caught:
        check_denoiser(ModelSpec(denoiser=spec, conditioning=TEN_CLASSES))
    assert str(caught.value) == f"{caught.value.path}: {caught.value.why}"
    return caught.value


@pytest.mark.parametrize("size", [4, 5, 8, 12, 28, 256])
def test_the_default_unet_takes_every_size(size: int) -> None:
    check_denoiser(ModelSpec(denoiser=DenoiserSpec(sample_size=size, channels=3)))


def test_the_default_networks_are_small() -> None:
    classes = ConditioningSpec(type="Class", classes=10)
    assert weight_count(build_denoiser(ModelSpec(conditioning=classes))) == 702_753
    assert weight_count(build_denoiser(ModelSpec(denoiser=DenoiserSpec(type="DiT")))) < 1_300_000


@pytest.mark.parametrize("model", [tiny_unet(), tiny_dit(), tiny_unet(TEN_CLASSES), tiny_dit(TEN_CLASSES)])
def test_shapes_are_kept_and_times_may_differ_in_a_batch(model: ModelSpec) -> None:
    network = build_denoiser(model)
    x = torch.randn(3, 1, 8, 8)
    assert network(x, torch.tensor([0.0, 1.5, 999.0])).shape == x.shape


def ready(model: ModelSpec) -> Denoiser:
    network = build_denoiser(model)
    network.load_state_dict(weights_of(model))
    return network.eval()


@pytest.mark.parametrize("model", [tiny_unet(TEN_CLASSES), tiny_dit(TEN_CLASSES)])
def test_time_and_label_change_the_answer(model: ModelSpec) -> None:
    network, x = ready(model), torch.randn(1, 1, 8, 8).expand(4, 1, 8, 8)
    out = network(x, torch.tensor([5.0, 900.0, 5.0, 5.0]), torch.tensor([3, 3, 4, NULL_LABEL]))
    pictures = {tuple(row.flatten().tolist()) for row in out.detach()}
    assert len(pictures) == 4


@pytest.mark.parametrize("model", [tiny_unet(TEN_CLASSES), tiny_dit(TEN_CLASSES)])
def test_no_labels_at_all_mean_the_null_class_for_every_row(model: ModelSpec) -> None:
    network, x, t = ready(model), torch.randn(2, 1, 8, 8), torch.zeros(2)
    assert torch.equal(network(x, t), network(x, t, torch.full((2,), NULL_LABEL)))


@pytest.mark.parametrize("model", [tiny_unet(), tiny_dit()])
def test_labels_for_a_model_without_conditioning_are_an_error(model: ModelSpec) -> None:
    with pytest.raises(ValueError, match="without conditioning"):
        build_denoiser(model)(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_the_same_torch_seed_gives_the_same_weights() -> None:
    def built() -> list[float]:
        torch.manual_seed(11)
        return [tensor.sum().item() for tensor in build_denoiser(tiny_unet()).parameters()]

    assert built() == built()


def test_given_widths_set_the_number_of_levels() -> None:
    network = build_denoiser(ModelSpec(denoiser=DenoiserSpec(sample_size=16, config={"block_out_channels": [8, 8, 8]})))
    levels = network.config["down_block_types"]
    assert isinstance(levels, list)
    assert len(levels) == 3


def test_the_librarys_own_keys_reach_the_class() -> None:
    config: dict[str, JsonValue] = {
        **TINY_UNET,
        "layers_per_block": 2,
        "act_fn": "gelu",
        "dropout": 0.25,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": None,
        "norm_eps": 1e-4,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
    }
    network = build_denoiser(ModelSpec(denoiser=DenoiserSpec(config=config)))
    library_config: Any = network.network.config
    assert {key: library_config[key] for key in config} == config


# --- refusals ----------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_those_that_exist() -> None:
    refused = refusal({"layers_per_blok": 2})
    assert refused.path == f"{CONFIG}.layers_per_blok"
    assert "no such key" in refused.why
    assert "layers_per_block" in refused.why


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("sample_size", "spec.model.denoiser.sampleSize"),
        ("in_channels", "spec.model.denoiser.channels"),
        ("out_channels", "spec.model.denoiser.channels"),
        ("num_class_embeds", "spec.model.conditioning.classes"),
        ("class_embed_type", "spec.model.conditioning"),
        ("num_train_timesteps", "spec.diffusion.schedule.timesteps"),
    ],
)
def test_a_key_that_the_spec_sets_elsewhere_is_refused_with_the_place(key: str, remedy: str) -> None:
    refused = refusal({key: 1})
    assert refused.path == f"{CONFIG}.{key}"
    assert f"set {remedy} instead" in refused.why


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_out_channels", "32"),
        ("block_out_channels", []),
        ("block_out_channels", [0, 8]),
        ("block_out_channels", [-8, 8]),
        ("block_out_channels", [8.5, 8]),
        ("layers_per_block", "2"),
        ("layers_per_block", 0),
        ("layers_per_block", 10**9),
        ("layers_per_block", None),
        ("norm_num_groups", 0),
        ("norm_eps", -1.0),
        ("dropout", 1.5),
        ("attention_head_dim", 0),
        ("add_attention", "yes"),
        ("mid_block_type", "Nonsense"),
        ("mid_block_scale_factor", 0),
        ("time_embedding_type", "fourier"),
        ("time_embedding_type", "learned"),
        ("time_embedding_dim", 0),
        ("freq_shift", 128),
        ("upsample_type", "nearest"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_with_the_value(key: str, value: JsonValue) -> None:
    refused = refusal({"act_fn": "silu", key: value})
    assert refused.path.startswith(f"{CONFIG}.{key}")
    assert "got " in refused.why


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "nonsense"),
        ("down_block_types", ["Nonsense", "DownBlock2D"]),
        ("down_block_types", ["DownBlock2D"]),
        ("up_block_types", ["SkipUpBlock2D", "UpBlock2D"]),
        ("resnet_time_scale_shift", "nonsense"),
        ("norm_num_groups", 7),
        ("attention_head_dim", 65),
        ("block_out_channels", [8, 8, 8, 8, 8, 8]),
    ],
)
def test_a_value_that_the_class_rejects_is_refused_by_its_key(key: str, value: JsonValue) -> None:
    refused = refusal({"layers_per_block": 1, key: value})
    assert refused.path == f"{CONFIG}.{key}"
    assert "UNet2DModel does not accept it: " in refused.why


def test_values_that_only_together_do_not_work_are_refused_as_a_whole() -> None:
    blocks: dict[str, JsonValue] = {"down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"]}
    assert refusal(blocks).path == CONFIG


def test_a_network_that_only_takes_several_samples_at_once_is_refused() -> None:
    """Its lowest level is 1x1 with one channel a group: a norm of a single number."""
    denoiser = DenoiserSpec(sample_size=4, config={"block_out_channels": [4, 4, 16], "norm_num_groups": 4})
    with pytest.raises(ConfigRefused, match="more than 1 value per channel"):
        check_denoiser(ModelSpec(denoiser=denoiser))


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"depht": 4}, f"{CONFIG}.depht"),
        ({"depth": 0}, f"{CONFIG}.depth"),
        ({"depth": "4"}, f"{CONFIG}.depth"),
        ({"patch_size": 3}, f"{CONFIG}.patch_size"),
        ({"num_heads": 3}, f"{CONFIG}.num_heads"),
        ({"hidden_size": 130}, f"{CONFIG}.hidden_size"),
    ],
)
def test_a_dit_that_cannot_be_is_refused_by_its_key(config: dict[str, JsonValue], path: str) -> None:
    assert refusal(config, "DiT").path == path


def test_a_size_that_the_patches_do_not_divide_is_refused_by_the_size() -> None:
    refused = refusal({}, "DiT", size=9)
    assert refused.path == "spec.model.denoiser.sampleSize"
    assert "not a multiple of patch_size 2" in refused.why


def test_build_checks_too() -> None:
    with pytest.raises(ConfigRefused):
        build_denoiser(ModelSpec(denoiser=DenoiserSpec(config={"nonsense": 1}), conditioning=UNCONDITIONAL))
