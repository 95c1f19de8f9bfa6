"""Monte Carlo model of a kilovoltage cone-beam CT system."""

from conebeam import compilation

compilation.use_keyed_cache()

__version__ = "0.1.0"
