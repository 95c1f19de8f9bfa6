"""Samplers: one process a file, compiled, pure, cited."""
