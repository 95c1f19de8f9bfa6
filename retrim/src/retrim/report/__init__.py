"""Reports: one self-contained HTML page from the result of a demo or a benchmark.

The page needs no network, no script and no other file, and the module needs
nothing that is not in Python itself.  It draws its own SVG.
"""

from __future__ import annotations

from retrim.report.document import page, write

__all__ = ["page", "write"]
