"""What the API server says against a write becomes a condition's reason and a sentence with the remedy."""

import pytest

from diffusion_operator.observe.creation_failures import refused

EXCEEDED = "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"
UNSAID = "failed quota: none: must specify limits.memory for: trainer"


@pytest.mark.parametrize(
    ("sentence", "reason", "remedy"),
    [
        (EXCEEDED, "QuotaExceeded", "; raise the ResourceQuota or ask for less"),
        (UNSAID, "PodsRefused", "; set these in `resources`, or have a LimitRange set them"),
        ("the policy says no", "PodsRefused", ""),
    ],
)
def test_a_quota_is_told_with_what_to_do(sentence: str, reason: str, remedy: str) -> None:
    assert refused(sentence, "PodsRefused") == (reason, f"{sentence}{remedy}")
