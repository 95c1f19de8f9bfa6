"""Electrons of at most 150 keV in matter: tables and samplers, in the form kernels read."""
