"""Sources: spectra and where photons start, in the form kernels read."""
