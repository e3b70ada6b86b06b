"""The form of a text field, told in words: a regular expression alone says little to whoever broke it."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue


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

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self.check).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern, "why": self.why}
