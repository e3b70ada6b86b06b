"""The one error that this package raises for people: one line that says what is wrong and what to do about it."""


class LocalClusterError(Exception):
    """The embedded cluster cannot do what was asked; the message names the cause and the remedy."""
