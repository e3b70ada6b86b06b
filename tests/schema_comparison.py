"""CRD schemas and typed specs in one common form, the differences between them, and what a schema makes of a document.

Common form of a node: `type` (an int-or-string counts as string), `properties`, `required`, `enum`, `default`, the
bounds of numbers (`minimum`, `exclusiveMinimum`, `maximum`, `exclusiveMaximum`, as numbers) and of lengths, `pattern`
with the sentence `why`, `items`, and `values` for maps. `free` marks content that passes through to Kubernetes or a
library as it is.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

Node = dict[str, Any]
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "maxProperties")
_KEPT = ("enum", "pattern", "why", "required", *_LENGTHS)
_FORM = re.compile(r"(?:self|string\(self\))\.matches\(r'([^']+)'\)")


def typed_node(model: type[BaseModel]) -> Node:
    """The typed spec, by the names that users write."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _typed(schema, schema.get("$defs", {}))


def _typed(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> Node:
    if "$ref" in raw:
        found = definitions[raw["$ref"].rpartition("/")[2]]
        return _typed({**found, **{key: value for key, value in raw.items() if key != "$ref"}}, definitions)
    if "anyOf" in raw:
        (branch,) = [one for one in raw["anyOf"] if one.get("type") != "null"]
        rest = {key: value for key, value in raw.items() if key != "anyOf"}
        return _typed({**branch, **rest}, definitions)
    node: Node = {key: raw[key] for key in _KEPT if key in raw}
    if "const" in raw:
        node["enum"] = [raw["const"]]
    if raw.get("default") is not None:
        node["default"] = raw["default"]
    node["type"] = raw.get("type")
    if node["type"] is None:
        return {"free": True}
    _bounds(node, raw)
    if "properties" in raw:
        node["properties"] = {name: _typed(child, definitions) for name, child in raw["properties"].items()}
    elif node["type"] == "object":
        values = raw.get("additionalProperties")
        node["values"] = _typed(values, definitions) if isinstance(values, dict) else {"free": True}
    if "items" in raw:
        node["items"] = _typed(raw["items"], definitions)
    return node


def declared_node(raw: Mapping[str, Any]) -> Node:
    """A node of a CRD's schema."""
    node: Node = {key: raw[key] for key in (*_KEPT, "default") if key in raw} | form_of(raw)
    is_quantity = bool(raw.get("x-kubernetes-int-or-string"))
    node["type"] = "string" if is_quantity else raw["type"]
    if not is_quantity:  # There a bound holds for integers only, and the pattern of the strings says the same.
        _bounds(node, raw)
    if raw.get("x-kubernetes-preserve-unknown-fields"):
        node["values"] = {"free": True}
    if "properties" in raw:
        node["properties"] = {name: declared_node(child) for name, child in raw["properties"].items()}
    if "additionalProperties" in raw:
        node["values"] = declared_node(raw["additionalProperties"])
    if "items" in raw:
        node["items"] = declared_node(raw["items"])
    return node


def form_of(raw: Mapping[str, Any]) -> Node:
    """`pattern` and `why` of a text; a CRD has them as a rule, so that a user reads the sentence."""
    for rule in raw.get("x-kubernetes-validations", ()):
        if found := _FORM.fullmatch(rule["rule"]):
            return {"pattern": found[1], "why": rule["message"]}
    return {}


def _bounds(node: Node, raw: Mapping[str, Any]) -> None:
    """Write `minimum: 0, exclusiveMinimum: true` (OpenAPI 3.0) and `exclusiveMinimum: 0` (2020-12) in one way."""
    for side, step in (("Minimum", 1), ("Maximum", -1)):
        plain, exclusive = raw.get(side.lower()), raw.get(f"exclusive{side}")
        if exclusive is True:
            plain, exclusive = None, plain
        exclusive = None if exclusive is False else exclusive
        if exclusive is not None and raw.get("type") == "integer":
            plain, exclusive = exclusive + step, None
        if plain is not None:
            node[side.lower()] = plain
        if exclusive is not None:
            node[f"exclusive{side}"] = exclusive


def differences(declared: Node, typed: Node, path: str) -> Iterator[str]:
    """Each difference as `path: what differs`; none where both say the same.

    In the items of a list only the typed spec has defaults: a client that merges replaces lists as a whole, and would
    see a difference each time that it applies the same.
    """
    if typed.get("free") or declared.get("free"):
        return
    for key in (
        "type",
        "enum",
        "pattern",
        "why",
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "exclusiveMaximum",
        *_LENGTHS,
    ):
        if declared.get(key) != typed.get(key):
            yield f"{path}: {key} is {declared.get(key)} in the CRD and {typed.get(key)} in the typed spec"
    if sorted(declared.get("required", [])) != sorted(typed.get("required", [])):
        yield f"{path}: the CRD requires {declared.get('required')} and the typed spec {typed.get('required')}"
    ours, theirs = declared.get("default"), typed.get("default")
    if "[]" in path:
        theirs = None
    if "properties" not in declared and ours != theirs and (ours is not None or theirs not in ([], {})):
        yield f"{path}: default is {ours} in the CRD and {theirs} in the typed spec"
    yield from _inner_differences(declared, typed, path)


def _inner_differences(declared: Node, typed: Node, path: str) -> Iterator[str]:
    ours, theirs = declared.get("properties", {}), typed.get("properties", {})
    for name in sorted({*ours} ^ {*theirs}):
        yield f"{path}.{name}: stands only in the {'CRD' if name in ours else 'typed spec'}"
    for name in sorted({*ours} & {*theirs}):
        yield from differences(ours[name], theirs[name], f"{path}.{name}")
    for key in ("items", "values"):
        if (key in declared) != (key in typed):
            yield f"{path}: {key} stand only in the {'CRD' if key in declared else 'typed spec'}"
        elif key in declared:
            yield from differences(declared[key], typed[key], f"{path}[]")


def with_defaults(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` as the API server stores it: with the schema's defaults filled in, from the outside to the inside."""
    if isinstance(value, dict):
        filled = copy.deepcopy(value)
        for name, child in schema.get("properties", {}).items():
            if name not in filled and "default" in child:
                filled[name] = copy.deepcopy(child["default"])
        for name, inner in filled.items():
            child = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
            filled[name] = with_defaults(child, inner)
        return filled
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), inner) for inner in value]
    return value


def misfits(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    """What the API server would refuse or drop in `value`: wrong types, bounds, and fields that nobody declared."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    kind = "int-or-string" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    if not _FITS.get(kind, lambda _: True)(value):
        yield f"{path}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    form = form_of(schema)
    if form and not re.fullmatch(form["pattern"], str(value)):
        yield f"{path}: {value!r}: {form['why']}"
    yield from _out_of_bounds(schema, value, path)
    if isinstance(value, dict):
        yield from _misfits_of_a_map(schema, value, path)
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from misfits(schema.get("items", {}), inner, f"{path}[{number}]")


_FITS: dict[str, Any] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _out_of_bounds(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    size = len(value) if isinstance(value, str | list | dict) else value
    bounds = {"minimum": 1, "maximum": -1, "maxLength": -1, "minLength": 1, "maxItems": -1, "minItems": 1}
    for key, sign in {**bounds, "maxProperties": -1}.items():
        if key in schema and isinstance(size, int | float) and sign * (size - schema[key]) < 0:
            yield f"{path}: {value!r} breaks {key} {schema[key]}"


def _misfits_of_a_map(schema: Mapping[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}: is required"
    for name, inner in value.items():
        child = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if child is None:
            yield f"{path}.{name}: is not declared"
        else:
            yield from misfits(child, inner, f"{path}.{name}")
