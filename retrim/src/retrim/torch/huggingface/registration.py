"""Makes packed checkpoints loadable by ``from_pretrained``, without loading transformers before it is needed.

The quantizer is registered at the moment when transformers itself loads its
table of quantizers: at once if that has happened, else by a finder that waits
for that one module and then takes itself away.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_TABLE = "transformers.quantizers.auto"
_OURS = "retrim.torch.huggingface.quantizer"


def register() -> None:
    """Register the quantizer named ``retrim``, now or as soon as transformers loads its own."""
    if _TABLE in sys.modules:
        import_module(_OURS)
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds one module as Python would, and has ours loaded after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def then_register(module: ModuleType) -> None:
            load(module)
            import_module(_OURS)

        spec.loader.exec_module = then_register  # type: ignore[method-assign]
        return spec
