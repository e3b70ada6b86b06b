"""Custom resources as typed, frozen specs: parse a dict or say which path is refused, and why."""
