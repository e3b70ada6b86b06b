"""What the operator and its workloads have agreed on: names, codes and messages, and nothing that acts.

Both sides import this package and neither imports the other, so a field that crosses the border between an
operator and a pod is written down exactly once. It needs the standard library and pydantic only.
"""
