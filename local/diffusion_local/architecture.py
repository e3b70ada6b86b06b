"""The processor of this machine, in the words of Go and of Kubernetes."""

import platform

GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """Return amd64, arm64, or what the machine says itself where Go's word for it is not known."""
    return GO_NAMES.get(platform.machine(), platform.machine())
