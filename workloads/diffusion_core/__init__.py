"""Noise schedules, objectives, denoisers, samplers and EMA: the mathematics, without I/O around it."""
