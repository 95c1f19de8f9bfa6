"""Windows of a token array, drawn by seed and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from retrim.errors import ConfigError


@dataclass(frozen=True)
class Batches:
    """Random windows of a token array: batch s is a function of (seed, s)."""

    ids: np.ndarray
    batch: int
    context: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.ids) < self.context + 2:
            raise ConfigError(
                f"context must be shorter than the {len(self.ids)} training tokens, not {self.context}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed must be a whole number >= 0, not {self.seed}")

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of step `step`, each (batch, context)."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        starts = draw.integers(0, len(self.ids) - self.context - 1, size=self.batch)
        window = self.ids[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        taken = torch.from_numpy(window)
        return taken[:, :-1].contiguous(), taken[:, 1:].contiguous()
