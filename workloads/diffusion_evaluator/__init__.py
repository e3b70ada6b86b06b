"""Judging what a model draws."""
