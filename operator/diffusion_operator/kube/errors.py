"""What can go wrong between the operator and the API server.

KubeError
    Unreachable          no whole answer of an API server came: the request may or may not have been carried out
    ApiRefusal           an answer came, and it was no
        NotFound         404
        Conflict         409: the object is not what we thought, or it exists already
        Gone             410: the watch or list position is too old
        TooManyRequests  429, after as many retries as were allowed
        NamespaceEnding  403 with this cause: the namespace is being deleted, and nothing can be made in it any more
"""

from collections.abc import Collection


class KubeError(Exception):
    """Any failure of a request to the API server."""


class Unreachable(KubeError):
    """No whole answer of an API server came. Whether the request was carried out is unknown."""


class ApiRefusal(KubeError):
    """The API server answered with an error. `reason` is its machine-readable word."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


class NotFound(ApiRefusal):
    """There is no such object, or no such kind."""


class Conflict(ApiRefusal):
    """A precondition does not hold, or the object exists already."""


class Gone(ApiRefusal):
    """The resource version or the continue token is too old: list again."""


class TooManyRequests(ApiRefusal):
    """The API server is busy and stayed so."""


class NamespaceEnding(ApiRefusal):
    """The namespace is being deleted: nothing can be made in it any more."""


FINAL_CODES = frozenset({400, 403, 409, 413, 422})
"""Answers that the same request will get again until somebody changes something (409: the name is taken)."""

HEAD, TAIL = 500, 200
"""What is kept of a longer sentence, in characters: a refused pod template is printed whole in the middle of it."""

_BY_CODE = {404: NotFound, 409: Conflict, 410: Gone, 429: TooManyRequests}


def refusal(code: int, reason: str, message: str, causes: Collection[str] = ()) -> ApiRefusal:
    """The exception for an answer with this code; `causes` are its machine-readable details."""
    message = f"{message[:HEAD]} ... {message[-TAIL:]}" if len(message) > HEAD + TAIL else message
    if "NamespaceTerminating" in causes:
        return NamespaceEnding(code, reason, message)
    return _BY_CODE.get(code, ApiRefusal)(code, reason, message)
