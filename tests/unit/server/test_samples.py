"""From a request to samples: defaults, and every refusal that needs to know the model."""

from typing import Any

import pytest

from diffusion_contract.serving_config import SamplingSpec, ServiceClass
from diffusion_router.door.errors import ApiError
from diffusion_router.door.image_request import parse_image_request
from diffusion_router.door.limits import MAX_SEED
from diffusion_server.image_id import image_id, read_image_id
from diffusion_server.samples import Sample, ServedModel, samples_of

DIGEST = "sha256:" + "ab" * 32
DIGITS = ServedModel(digest=DIGEST, width=8, height=8, classes=10, timesteps=1000)
PLAIN = ServedModel(digest=DIGEST, width=16, height=16, classes=None, timesteps=100)
SAMPLING = SamplingSpec(
    sampler="Euler",
    guidance_scale=2.0,
    classes=(ServiceClass(name="final", steps=20), ServiceClass(name="preview", steps=4)),
)


def asked(model: ServedModel = DIGITS, **body: Any) -> tuple[Sample, ...]:
    return samples_of(parse_image_request(body), SAMPLING, model)


def refused(model: ServedModel = DIGITS, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asked(model, **body)
    return caught.value


def test_what_is_left_open_comes_from_the_service() -> None:
    (sample,) = asked(seed=1, label=3)
    assert sample == Sample(seed=1, label=3, steps=20, guidance_scale=2.0, sampler="Euler")


def test_the_service_class_says_how_many_steps_and_steps_says_more() -> None:
    preview: dict[str, Any] = {"class": "preview"}
    assert asked(seed=1, **preview)[0].steps == 4
    assert asked(seed=1, steps=7, **preview)[0].steps == 7


def test_image_i_is_drawn_from_seed_plus_i_also_at_the_end_of_the_range() -> None:
    assert [sample.seed for sample in asked(seed=5, n=3)] == [5, 6, 7]
    assert [sample.seed for sample in asked(seed=MAX_SEED, n=2)] == [MAX_SEED, 0]


def test_image_i_of_many_is_the_image_of_its_own_seed() -> None:
    assert asked(seed=5, n=3)[2] == asked(seed=7)[0]


def test_a_seed_of_our_own_is_kept_by_every_json_reader() -> None:
    assert all(0 <= asked()[0].seed < 2**53 for _ in range(20))


def test_without_a_label_the_seed_draws_the_class_and_draws_all_of_them() -> None:
    labels = [asked(seed=seed)[0].label for seed in range(200)]
    assert labels == [asked(seed=seed)[0].label for seed in range(200)]
    assert set(labels) == set(range(10))


def test_a_prompt_may_be_the_number_of_a_class() -> None:
    assert asked(prompt="7")[0].label == 7
    assert asked(prompt=" 7 ", label=7)[0].label == 7
    assert asked(prompt="", label=4)[0].label == 4


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"size": "16x16"}, "size"),
        ({"class": "gold"}, "class"),
        ({"steps": 1000, "model_has": 100}, "steps"),
        ({"label": 10}, "label"),
        ({"prompt": "a cat"}, "prompt"),
        ({"prompt": "10"}, "prompt"),
        ({"prompt": "\N{ARABIC-INDIC DIGIT SEVEN}"}, "prompt"),
        ({"prompt": "3", "label": 4}, "prompt"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    timesteps = body.pop("model_has", 1000)
    model = ServedModel(digest=DIGEST, width=8, height=8, classes=10, timesteps=timesteps)
    error = refused(model, **body)
    assert (error.code, error.status, error.param) == ("invalid_value", 400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"label": 1}, "label"), ({"prompt": "1"}, "prompt"), ({"guidance_scale": 2.0}, "guidance_scale")],
)
def test_an_unconditional_model_refuses_classes_and_guidance(body: dict[str, Any], param: str) -> None:
    assert refused(PLAIN, **body).param == param
    assert asked(PLAIN, guidance_scale=1)[0].label is None


def test_each_image_of_a_request_is_the_one_that_its_seed_gives_alone() -> None:
    assert asked(seed=40, n=10) == tuple(asked(seed=seed)[0] for seed in range(40, 50))
    assert [sample.seed for sample in asked(seed=2**63 - 1, n=2)] == [2**63 - 1, 0]


def test_the_models_own_size_may_be_left_to_it() -> None:
    assert asked(seed=1, size="auto") == asked(seed=1, size="8x8") == asked(seed=1)


def test_a_refusal_never_repeats_the_prompt() -> None:
    assert "secret" not in refused(prompt="a secret garden").message


@pytest.mark.parametrize("label", [None, 3])
def test_an_image_id_holds_the_whole_recipe(label: int | None) -> None:
    sample = Sample(seed=MAX_SEED, label=label, steps=20, guidance_scale=2.5, sampler="DDIM")
    text = image_id(DIGEST, sample)
    assert read_image_id(text) == (DIGEST, sample)
    assert text.isascii()
    assert all(character.isalnum() or character in "-_" for character in text)


@pytest.mark.parametrize(
    "text", ["", "img1-", "img1-!!!!", "img1-e30", "img1-WzFd", "img1-WyJhIiwiWCIsMSwyLjAsMyw0XQ", "other"]
)
def test_what_is_no_image_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an image id"):
        read_image_id(text)
