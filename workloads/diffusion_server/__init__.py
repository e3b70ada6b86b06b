"""The engine pod: a step-level batching loop and its HTTP face."""
