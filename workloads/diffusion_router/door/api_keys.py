"""API keys: who may come in, read from the files of a mounted Secret and read again when they change.

The Secret holds one entry per key: its name says whose key it is, its value is `sha256:<hex>` of the key. The key
itself is never stored. A plain hash is enough because keys are long random strings that nobody can guess one by one.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from diffusion_contract.api_key_hash import parse_api_key_hash

_LOGGER = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int, int], ...]


class ApiKeys:
    """The keys in `directory`. Without the folder, or with an empty one, nobody may come in."""

    def __init__(
        self, directory: Path, recheck_seconds: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._recheck_seconds = recheck_seconds
        self._clock = clock
        self._hashes: dict[str, bytes] = {}
        self._fingerprint: Fingerprint | None = None
        self._next_check = clock()

    def owner_of(self, presented: str) -> str | None:
        """Whose key this is, or None. Every stored hash is compared, in constant time, whether or not one matched."""
        self._read_again_if_changed()
        shown = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        owner = None
        for name, stored in self._hashes.items():
            if hmac.compare_digest(shown, stored):
                owner = name
        return owner

    def _read_again_if_changed(self) -> None:
        if self._clock() < self._next_check:
            return
        self._next_check = self._clock() + self._recheck_seconds
        fingerprint = _fingerprint(self._directory)
        if fingerprint != self._fingerprint:
            self._hashes = _read_hashes(self._directory, [name for name, *_ in fingerprint])
            self._fingerprint = fingerprint
            _LOGGER.info("API keys read: %d", len(self._hashes))


def _fingerprint(directory: Path) -> Fingerprint:
    """Names, times, sizes and inodes of the key files. A mounted Secret also holds `..data` links: not keys."""
    found = []
    try:
        for path in sorted(directory.iterdir()):
            if not path.name.startswith(".") and path.is_file():
                stat = path.stat()
                found.append((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError:
        return ()
    return tuple(found)


def _read_hashes(directory: Path, names: list[str]) -> dict[str, bytes]:
    hashes = {}
    for name in names:
        try:
            text = (directory / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = ""
        if stored := parse_api_key_hash(text):
            hashes[name] = stored
        else:
            _LOGGER.warning("the entry %r of the keys Secret is not of the form sha256:<64 hex digits>; ignored", name)
    return hashes
