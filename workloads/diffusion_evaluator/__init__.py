"""Judging what a model draws: so far, whether digits are recognised (judge.py)."""
