"""The front door of a DiffusionService."""
