"""Recipes: what is to be compressed and how, written down, and carried out."""

from __future__ import annotations

from retrim.recipe.schema import Recipe, parse, read

__all__ = ["Recipe", "parse", "read"]
