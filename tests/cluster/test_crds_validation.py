"""What the API server itself accepts and refuses, asked of a real one: no webhook and no operator is involved."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from accepted_custom_resources import GOOD
from custom_resource_tables import CustomResources, custom_resources, parse, service, training
from diffusion_local.cluster import Cluster
from diffusion_operator.api.errors import SpecInvalid
from refused_custom_resources import BAD


@pytest.fixture(scope="module")
def resources(control_plane: Cluster) -> Iterator[CustomResources]:
    with custom_resources(control_plane) as client:
        yield client


@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD)
def test_good_objects_are_accepted(resources: CustomResources, raw: dict[str, Any]) -> None:
    assert resources.refusal(raw) == ""


@pytest.mark.parametrize(("raw", "words"), BAD.values(), ids=BAD)
def test_bad_objects_are_refused_in_words_and_where_the_operator_would_refuse_them(
    resources: CustomResources, raw: dict[str, Any], words: str
) -> None:
    answer = resources.refusal(raw)
    assert words in answer
    assert re.search("should match|evaluation|no such", answer) is None, "neither patterns nor broken rules are words"
    with pytest.raises(SpecInvalid) as refused:
        parse(raw)
    assert refused.value.path in re.sub(r"\[([a-z./]+)\]", r".\1", answer), (
        "a rule about a map's entry says limits[cpu]"
    )


NAMES: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a dot": (training(metadata__name="a.b"), "choose a name without dots"),
    "a name that begins with a digit": (service(metadata__name="1a"), "must begin with a letter"),
    "a name of 51 characters": (service(metadata__name="a" * 51), "at most 50 characters"),
}


@pytest.mark.parametrize(("raw", "words"), NAMES.values(), ids=NAMES)
def test_names_from_which_no_child_could_be_named_are_refused(
    resources: CustomResources, raw: dict[str, Any], words: str
) -> None:
    assert words in resources.refusal(raw)
