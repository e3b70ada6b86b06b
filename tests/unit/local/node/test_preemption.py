"""What the pretended cloud announces is what the operator reads."""

from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS, TERMINATES_AT_ANNOTATION
from diffusion_local.node.preemption import CONDITION, TAINT_KEY, TERMINATES_AT


def test_the_notice_is_one_that_the_operator_knows() -> None:
    assert TAINT_KEY in NOTICE_TAINTS
    assert CONDITION in NOTICE_CONDITIONS
    assert TERMINATES_AT == TERMINATES_AT_ANNOTATION
