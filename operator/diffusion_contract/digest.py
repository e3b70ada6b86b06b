"""Digests of content, as they are written everywhere: `sha256:` and 64 hexadecimal digits."""

import hashlib


def sha256_of(content: bytes | memoryview) -> str:
    """`sha256:<64 hex digits>` of these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
