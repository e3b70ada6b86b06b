"""How an API key is stored: `sha256:<hex>` of it. Doors compare by it; the operator only says where it is not so."""

import re

SHAPE = "sha256:<hex>"
"""What stands in place of a well-formed value wherever values themselves must not be seen."""

_STORED = re.compile(r"sha256:([0-9a-f]{64})")


def parse_api_key_hash(stored: str) -> bytes | None:
    """The 32 bytes of the hash in a Secret's entry; None where it has another form (white space around it is fine)."""
    found = _STORED.fullmatch(stored.strip())
    return bytes.fromhex(found[1]) if found else None
