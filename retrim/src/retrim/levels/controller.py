"""The controller: a recurrent policy over choices, trained by REINFORCE (docs/retrim/levels.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from retrim.levels.space import Choice, Space


class Controller:
    """Decides point after point, each decision fed to the next.

    Parameters
    ----------
    space : Space
    seed : int
    hidden : int
        Width of the LSTM layer.
    rate : float
        Of Adam.
    entropy : float
        Weight of the entropy bonus.
    decay : float
        Of the moving baseline.

    Notes
    -----
    Weights and draws depend on the seed alone; torch's generator is left as it was.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        hidden: int = 64,
        rate: float = 0.03,
        entropy: float = 0.03,
        decay: float = 0.8,
    ) -> None:
        self._options = space.options
        self._draw = np.random.default_rng([seed, 3])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._policy = _Policy([len(options) for options in self._options], hidden)
        self._optimizer = torch.optim.Adam(self._policy.parameters(), lr=rate)
        self._entropy, self._decay = entropy, decay
        self._baseline: float | None = None

    def ask(self, count: int) -> list[Choice]:
        chances = self._draw.random((count, len(self._options)))
        with torch.no_grad():
            places = self._policy.sampled(torch.from_numpy(chances))
        return [
            tuple(options[place] for options, place in zip(self._options, row, strict=True))
            for row in places.tolist()
        ]

    def tell(self, choices: Sequence[Choice], rewards: Sequence[float]) -> None:
        """One step up the policy's gradient, over the whole batch."""
        mean = sum(rewards) / len(rewards)
        baseline = mean if self._baseline is None else self._baseline
        places = torch.tensor(
            [[o.index(c) for o, c in zip(self._options, choice, strict=True)] for choice in choices]
        )
        logs, entropies = self._policy(places)
        advantages = torch.tensor([reward - baseline for reward in rewards], dtype=logs.dtype)
        gain = (advantages * logs).mean() + self._entropy * entropies.mean()
        self._optimizer.zero_grad(set_to_none=True)
        (-gain).backward()
        self._optimizer.step()
        self._baseline = self._decay * baseline + (1 - self._decay) * mean

    def best(self) -> Choice:
        """The most probable decision at each point, one after the other."""
        with torch.no_grad():
            places = self._policy.greedy()
        return tuple(options[place] for options, place in zip(self._options, places, strict=True))


class _Policy(nn.Module):
    """Float64 throughout: small, and the same everywhere."""

    def __init__(self, counts: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, hidden, dtype=torch.float64))
        self.cell = nn.LSTMCell(hidden, hidden, dtype=torch.float64)
        heads = [nn.Linear(hidden, count, dtype=torch.float64) for count in counts]
        self.heads = nn.ModuleList(heads)
        self.words = nn.ModuleList(nn.Embedding(count, hidden, dtype=torch.float64) for count in counts)
        for head in heads:
            nn.init.zeros_(head.weight)  # every choice alike at first
            nn.init.zeros_(head.bias)

    def forward(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log probability and entropy of decisions, places (batch, points), each shape (batch,)."""
        logs = torch.zeros(len(places), dtype=torch.float64)
        entropies = torch.zeros_like(logs)

        def follow(step: int, odds: torch.Tensor) -> torch.Tensor:
            nonlocal logs, entropies
            logs = logs + odds.gather(1, places[:, step : step + 1]).squeeze(1)
            entropies = entropies - (odds.exp() * odds).sum(dim=1)
            return places[:, step]

        self._unrolled(len(places), follow)
        return logs, entropies

    def sampled(self, chances: torch.Tensor) -> torch.Tensor:
        """Decisions by uniform numbers, (batch, points)."""
        found: list[torch.Tensor] = []

        def draw(step: int, odds: torch.Tensor) -> torch.Tensor:
            sums = odds.exp().cumsum(dim=1)
            place = (sums < chances[:, step : step + 1] * sums[:, -1:]).sum(dim=1)
            found.append(place.clamp(max=odds.shape[1] - 1))
            return found[-1]

        self._unrolled(len(chances), draw)
        return torch.stack(found, dim=1)

    def greedy(self) -> list[int]:
        """The most probable decisions."""
        found: list[int] = []

        def best(_: int, odds: torch.Tensor) -> torch.Tensor:
            place = odds.argmax(dim=1)
            found.append(int(place))
            return place

        self._unrolled(1, best)
        return found

    def _unrolled(self, batch: int, decide: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
        """Go over the points; `decide` takes a step and its log probabilities, and gives the places taken."""
        fed = self.start.expand(batch, -1)
        state = (torch.zeros_like(fed), torch.zeros_like(fed))
        for step, (head, words) in enumerate(zip(self.heads, self.words, strict=True)):
            state = self.cell(fed, state)
            odds = head(state[0]).log_softmax(dim=1)
            fed = words(decide(step, odds))
