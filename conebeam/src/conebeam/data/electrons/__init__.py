"""Electrons in the target of an x-ray tube, 1 to 150 keV: cross sections and stopping powers."""
