"""Whether visitors can be let in: what is wrong with the Secret of `auth.keysRef`, and with which of its entries."""

from diffusion_operator.observe.service_world import ServiceWorld
from diffusion_operator.plan.conditions import Condition

NAMES_SHOWN = 5
"""Names of bad entries in one sentence."""

_ENTRY = "with one entry for each key, its value sha256:HEX of the key"


def keys_problem(world: ServiceWorld) -> Condition | None:
    """The condition that says what is wrong with the keys; None while all is well, or nobody knows.

    It stands beside every other reason, since whatever that is, its end brings no visitor in.
    """
    if world.spec is None:
        return None
    secret = f"the Secret {world.spec.auth.keys_ref.name} of auth.keysRef"
    if world.keys_found is False:
        return _problem("KeysNotFound", f"{secret} does not exist: create it {_ENTRY}")
    if world.keys_found and world.keys == 0:
        return _problem("KeysEmpty", f"{secret} has no entries: fill it {_ENTRY}")
    bad = sorted(world.bad_keys)
    if not bad:
        return None
    more = f" and {len(bad) - NAMES_SHOWN} more" if len(bad) > NAMES_SHOWN else ""
    said = f"of {secret}, {', '.join(bad[:NAMES_SHOWN])}{more} let nobody in"
    return _problem("Malformed", f"{said}: write sha256:HEX of the key, 64 small hexadecimal digits")


def nobody_gets_in(world: ServiceWorld) -> bool:
    """Whether no request can be answered, whoever asks."""
    return world.keys_found is not None and len(world.bad_keys) == world.keys


def _problem(reason: str, message: str) -> Condition:
    return Condition("KeysInvalid", "True", reason, message)
