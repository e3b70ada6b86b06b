"""Whatever stands in `denoiser.config`, it is accepted or refused with a path: nothing else comes out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from diffusion_contract.run_config import DenoiserSpec, ModelSpec
from diffusion_core.denoisers import ConfigRefused, build_denoiser, check_denoiser
from tiny_models import TEN_CLASSES, TINY_DIT, TINY_UNET

UNET_KEYS = [
    *("act_fn", "add_attention", "attention_head_dim", "attn_norm_num_groups", "block_out_channels"),
    *("center_input_sample", "class_embed_type", "down_block_types", "downsample_padding", "downsample_type"),
    *("dropout", "flip_sin_to_cos", "freq_shift", "in_channels", "layers_per_block", "mid_block_scale_factor"),
    *("mid_block_type", "norm_eps", "norm_num_groups", "num_class_embeds", "num_train_timesteps"),
    *("resnet_time_scale_shift", "sample_size", "time_embedding_dim", "time_embedding_type"),
    *("up_block_types", "upsample_type", "self", "return", "__class__"),
]
DIT_KEYS = ["patch_size", "hidden_size", "depth", "num_heads", "mlp_ratio", "model_config"]

WORDS = st.sampled_from(
    [
        *("", "silu", "gelu", "conv", "resnet", "positional", "fourier", "scale_shift", "default", "timestep"),
        *("DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D", "SkipDownBlock2D", "KDownBlock2D"),
        *("identity", "UNetMidBlock2D", "nonsense"),
    ]
)
NUMBERS = st.one_of(st.integers(-2, 40), st.sampled_from([10**12, 0.0, -1.5, 0.5, 1e-6, 1e300]))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES: st.SearchStrategy[JsonValue] = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.lists(WORDS, min_size=2, max_size=2),
    st.dictionaries(WORDS, PLAIN, max_size=2),
)


def accepted_or_refused(kind: str, base: dict[str, JsonValue], config: dict[str, JsonValue]) -> None:
    spec = DenoiserSpec.model_validate({"type": kind, "sampleSize": 8, "config": base | config})
    model = ModelSpec(denoiser=spec, conditioning=TEN_CLASSES)
    if (refused := refusal_of(model)) is None:
        built = build_denoiser(model)
        assert {key: built.config[key] for key in config} == config
    else:
        assert refused.path.startswith("spec.model.denoiser.")
        assert refused.why
        with pytest.raises(ConfigRefused):
            build_denoiser(model)


def refusal_of(model: ModelSpec) -> ConfigRefused | None:
    try:
        check_denoiser(model)
    except ConfigRefused as refused:
        return refused
    return None


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(UNET_KEYS), VALUES, min_size=1, max_size=2))
def test_a_unet_config_is_accepted_or_refused(config: dict[str, JsonValue]) -> None:
    accepted_or_refused("UNet2DModel", TINY_UNET, config)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(DIT_KEYS), VALUES, min_size=1, max_size=3))
def test_a_dit_config_is_accepted_or_refused(config: dict[str, JsonValue]) -> None:
    accepted_or_refused("DiT", TINY_DIT, config)


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=10), VALUES, st.sampled_from(["UNet2DModel", "DiT"]))
def test_an_unknown_key_is_refused_by_its_name(key: str, value: JsonValue, kind: str) -> None:
    if key in UNET_KEYS or key in DIT_KEYS:
        return
    spec = DenoiserSpec.model_validate({"type": kind, "config": {key: value}})
    with pytest.raises(ConfigRefused, match="no such key") as caught:
        check_denoiser(ModelSpec(denoiser=spec))
    assert caught.value.path == f"spec.model.denoiser.config.{key}"
