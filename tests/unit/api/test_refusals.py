"""The operator itself accepts and refuses what the API server does, also where rules stand between fields.

The same tables are asked of a real API server in tests/cluster/test_crds_validation.py.
"""

from typing import Any

import pytest

from accepted_custom_resources import GOOD
from custom_resource_tables import parse
from diffusion_operator.api.errors import SpecInvalid
from refused_custom_resources import BAD
from refused_forms import FORMS


@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD)
def test_good_objects_are_accepted(raw: dict[str, Any]) -> None:
    parse(raw)


@pytest.mark.parametrize("raw", [raw for raw, _ in BAD.values()], ids=BAD)
def test_bad_objects_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid):
        parse(raw)


@pytest.mark.parametrize(("raw", "words"), FORMS.values(), ids=FORMS)
def test_a_text_of_another_form_is_refused_in_the_same_words(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(raw)
    assert words in refused.value.why
