"""The embedded cluster: a real control plane whose nodes run pods as processes."""
