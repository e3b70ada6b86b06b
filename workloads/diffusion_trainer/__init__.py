"""The training pod: agent, data, training loop and checkpoints."""
