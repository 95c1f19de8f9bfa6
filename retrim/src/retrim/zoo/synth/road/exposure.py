"""What a camera makes of a scene: blur, glare, vignetting, tint, tone curve, noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def expose(random: np.random.Generator, image: Image.Image, glare: float) -> Image.Image:
    """The image as a camera would give it.

    Parameters
    ----------
    glare : float
        How much a low sun washes out, 0 to 1.
    """
    width, height = image.size
    unit = width / 1280
    blurred = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.5, 1.1)) * unit))
    scene = np.asarray(blurred, dtype=np.float32)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    fall = 1 - np.float32(random.uniform(0, 0.35)) * (across**2 + down**2) / 2
    gain = (random.uniform(0.85, 1.35) * random.uniform(0.95, 1.05, 3)).astype(np.float32)
    exposed = scene * fall[..., None] * gain
    if glare:
        sun = random.uniform(-0.8, 0.8), random.uniform(-1.0, -0.6)
        distance = (across - np.float32(sun[0])) ** 2 + (down - np.float32(sun[1])) ** 2
        veil = np.float32(255 * glare) * (0.25 / (distance + 0.25))
        exposed += veil[..., None] * np.array([1.0, 0.97, 0.9], dtype=np.float32)
    noise = np.float32(random.uniform(1, 5)) * random.standard_normal((height, width), dtype=np.float32)
    exposed += noise[..., None]
    return Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8)).point(
        _curve(float(random.uniform(0.8, 1.3)))
    )


def _curve(gamma: float) -> list[int]:
    """A tone curve for each of three channels."""
    return [int(255 * (value / 255) ** gamma + 0.5) for value in range(256)] * 3
