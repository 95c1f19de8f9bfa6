"""Transport of photons: random numbers, samplers, tables, history loops."""
