"""A small causal Transformer language model, pre-norm, built like an encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Sizes of a `TransformerLM`.

    Parameters
    ----------
    vocabulary : int
    width : int
    layers : int
    heads : int
        Must divide `width`.
    context : int
        Longest sequence.
    expansion : int, default 4
        Feed-forward width over `width`.
    """

    vocabulary: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    context: int = 128
    expansion: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {value!r}")
        if self.width % self.heads:
            raise ConfigError(f"heads must divide the width {self.width}, not {self.heads}")

    def to_dict(self) -> dict[str, int]:
        """Plain numbers, as artifacts store them."""
        return asdict(self)


class Attention(nn.Module):
    """Causal self-attention with one fused projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return cast(torch.Tensor, self.out(mixed.transpose(1, 2).reshape(batch, tokens, width)))


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation: nn.Module = nn.GELU()
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.down(self.activation(self.up(x))))


class Block(nn.Module):
    """One pre-norm Transformer block."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config.width, config.expansion * config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return cast(torch.Tensor, x + self.ffn(self.norm2(x)))


class TransformerLM(nn.Module):
    """Causal language model; the output layer is tied to the embedding.

    Shapes: token ids (batch, tokens) to logits (batch, tokens, vocabulary).
    """

    architecture = "retrim.zoo.TransformerLM"

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self._initialise()
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor, states: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Logits; hidden states are appended to `states`."""
        found = self.hidden(ids)
        if states is not None:
            states.extend(found)
        return cast(torch.Tensor, self.head(self.norm(found[-1])))

    def hidden(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Hidden states after the embedding and after every block, each (batch, tokens, width)."""
        tokens = ids.shape[-1]
        if tokens > self.config.context:
            raise ShapeError(f"a sequence must have at most {self.config.context} tokens, not {tokens}")
        x = self.embed(ids) + self.position.weight[:tokens]
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states

    def fusions(self) -> dict[str, str]:
        """Linear layers whose activation a kernel may take in: layer name to activation name."""
        return {f"blocks.{i}.ffn.up": f"blocks.{i}.ffn.activation" for i in range(self.config.layers)}

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = (2 * self.config.layers) ** -0.5 if name.endswith(_RESIDUAL) else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


_RESIDUAL = ("attention.out.weight", "ffn.down.weight")


def build(config: dict[str, Any], seed: int = 0) -> TransformerLM:
    """A model with seeded random weights, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TransformerLM(LMConfig(**config))
