"""Server-side apply that sends nothing when nothing changed, and repairs what was edited by hand."""

import base64
import hashlib
from typing import Any

import orjson

from diffusion_contract.names import SPEC_HASH_ANNOTATION
from diffusion_operator.kube.likeness import first_difference
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import Manifest


def stamped(manifest: Manifest) -> dict[str, Any]:
    """The manifest as it is sent: with the hash of its own content as an annotation, and `stringData` as `data`."""
    plain = _with_data(manifest)
    digest = hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    metadata = plain["metadata"]
    annotations = {**metadata.get("annotations", {}), SPEC_HASH_ANNOTATION: digest}
    return {**plain, "metadata": {**metadata, "annotations": annotations}}


def why_to_send(sent: Manifest, live: Raw | None) -> str | None:
    """Why `sent` must be applied to the live object, in words; None where everything in it stands there already.

    A hash that differs is not reason enough by name alone: it also stands for fields that `sent` no longer has.
    """
    if live is None:
        return "it does not exist"
    found = (live["metadata"].get("annotations") or {}).get(SPEC_HASH_ANNOTATION)
    if found != sent["metadata"]["annotations"][SPEC_HASH_ANNOTATION]:
        return "its manifest changed"
    difference = first_difference(sent, live)
    return f"{difference.lstrip('.')} was changed by someone else" if difference is not None else None


def _with_data(manifest: Manifest) -> dict[str, Any]:
    plain = dict(manifest)
    if texts := plain.pop("stringData", None):
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        plain["data"] = {**plain.get("data", {}), **encoded}
    return plain
