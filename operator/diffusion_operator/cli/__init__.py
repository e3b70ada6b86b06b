"""The commands `diffusion-operator` and `kubectl diffusion`."""
