"""The node agent: what a kubelet owes to the API server, with processes for containers."""
