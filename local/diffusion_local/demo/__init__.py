"""The demo: from a dataset to pictures on the embedded cluster, told as a short story with times."""
