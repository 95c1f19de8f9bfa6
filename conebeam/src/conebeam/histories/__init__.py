"""History loops: emit a photon, follow it and what it sets free, score."""
