"""The form of a text field, told in words: a regular expression alone says little to whoever broke it."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class TextForm:
    """Annotates a text: `pattern` must match all of it, and `why` is the sentence for a text that it does not match.

    The CRDs hold both as a rule, because of a `pattern` the API server would show the regular expression alone.
    """

    pattern: str
    why: str

    def check(self, text: str) -> str:
        """`text`; ValueError where it is of another form."""
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(self.why)
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern, "why": self.why}
