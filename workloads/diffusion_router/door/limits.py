"""Bounds that both doors keep. The router and the engine must agree on them, so they stand here once."""

ANSWER_SECONDS = 120.0
"""How long a request may take from its arrival to its answer."""
MAX_BODY_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
"""How long a connection may take to the end of a request's head, from its opening or from the head's first byte."""
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
MAX_IMAGES = 10
"""Images of one request."""
MAX_STEPS = 1000
"""Sampling steps of one image; a model's own number of time steps may bound them further."""
MAX_SEED = 2**63 - 1
RANDOM_SEEDS = 2**53
"""Seeds that we choose ourselves stay below this, where every JSON reader keeps whole numbers exactly."""
