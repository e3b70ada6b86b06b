"""What the trainer refuses to run with: told to the operator by field path, and never tried again."""


class ConfigurationRefused(ValueError):
    """The run configuration, or the data that it names, cannot work.

    `path` is the field of the DiffusionTraining at fault, for example `spec.dataset.uri`; `why` says what was found
    and what to do. The worker exits with code 64.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why
