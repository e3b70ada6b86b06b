"""What is written down about a request: never a prompt or an image, always what is needed to find it again."""

import hashlib
import hmac
import secrets

_KEY = secrets.token_bytes(32)
"""Made anew by every process: two log lines of one process can be compared, a hash cannot be tried against guesses."""


def prompt_mark(prompt: str | None) -> str:
    """Length and keyed hash of `prompt`: equal prompts look equal in the log of one process, and cannot be read."""
    if not prompt:
        return "0:-"
    digest = hmac.new(_KEY, prompt.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"{len(prompt)}:{digest[:16]}"
