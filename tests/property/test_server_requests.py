"""Whatever a client sends, it gets samples within bounds or an ApiError of the table: never another exception."""

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from diffusion_contract.serving_config import SamplingSpec, ServiceClass
from diffusion_router.door.errors import STATUS_OF, ApiError, error_response
from diffusion_router.door.image_request import ImageRequest, parse_image_request
from diffusion_router.door.limits import MAX_IMAGES, MAX_SEED, MAX_STEPS
from diffusion_router.door.reading import read_json
from diffusion_server.image_id import image_id, read_image_id
from diffusion_server.samples import Sample, ServedModel, samples_of

DIGEST = "sha256:" + "ab" * 32
SAMPLING = SamplingSpec(
    sampler="DDIM",
    guidance_scale=1.0,
    classes=(ServiceClass(name="final", steps=20), ServiceClass(name="preview", steps=4)),
)
FIELDS = [field.alias or name for name, field in ImageRequest.model_fields.items()]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SENSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(1, MAX_IMAGES),
        "seed": st.integers(0, MAX_SEED),
        "steps": st.integers(1, MAX_STEPS),
        "label": st.integers(0, 12),
        "prompt": st.sampled_from(["", "3", "11", "cat"]),
        "class": st.sampled_from(["final", "preview", "gold"]),
        "size": st.sampled_from(["8x8", "16x16"]),
        "guidance_scale": st.floats(0, 50),
    },
)
WILD = st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANYTHING, max_size=4)
MODELS = st.builds(
    ServedModel,
    digest=st.just(DIGEST),
    width=st.just(8),
    height=st.just(8),
    classes=st.none() | st.integers(2, 12),
    timesteps=st.integers(10, 1000),
)


def or_refusal(work: Callable[[], object]) -> object:
    """What `work` returns, or None after an ApiError that is in the table and can be sent."""
    try:
        return work()
    except ApiError as error:
        refusal = error
    assert refusal.status == STATUS_OF[refusal.code]
    assert 400 <= refusal.status < 500
    shown = json.loads(bytes(error_response(refusal).body))["error"]
    assert set(shown) == {"code", "message", "type", "param"}
    return None


@given(body=SENSIBLE | WILD | ANYTHING, model=MODELS)
@settings(deadline=None)
def test_any_body_gives_samples_within_bounds_or_a_refusal(body: object, model: ServedModel) -> None:
    samples = or_refusal(lambda: samples_of(parse_image_request(body), SAMPLING, model))
    if samples is None:
        return
    assert isinstance(samples, tuple)
    assert 1 <= len(samples) <= MAX_IMAGES
    for sample in samples:
        assert 0 <= sample.seed <= MAX_SEED
        assert 1 <= sample.steps <= min(MAX_STEPS, model.timesteps)
        assert 0 <= sample.guidance_scale <= 50
        assert (sample.label is None) == (model.classes is None)
        assert sample.label is None or 0 <= sample.label < (model.classes or 0)
        assert read_image_id(image_id(model.digest, sample)) == (model.digest, sample)


@given(body=SENSIBLE)
@settings(deadline=None)
def test_what_the_router_sends_on_is_what_it_was_sent(body: dict[str, object]) -> None:
    request = parse_image_request(body)
    assert parse_image_request(json.loads(json.dumps(request.to_wire()))) == request


@given(content=st.binary(max_size=200) | ANYTHING.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None)
def test_any_bytes_are_json_or_refused(content: bytes) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    loop = asyncio.new_event_loop()
    try:
        or_refusal(lambda: loop.run_until_complete(read_json(Request(scope, receive))))
    finally:
        loop.close()


@given(text=st.text(max_size=80))
@settings(deadline=None)
def test_any_text_is_an_image_id_or_refused(text: str) -> None:
    try:
        _, sample = read_image_id("img1-" + text)
    except ValueError:
        return
    assert isinstance(sample, Sample)


def test_a_body_that_never_ends_is_given_up() -> None:
    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    async def read() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
        await read_json(Request(scope, receive), seconds=0.02)

    with pytest.raises(ApiError) as caught:
        asyncio.run(read())
    assert (caught.value.code, caught.value.status) == ("request_timeout", 408)
