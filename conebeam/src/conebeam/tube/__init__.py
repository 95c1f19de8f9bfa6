"""The x-ray tube: electrons on a target to photons out of the window."""
