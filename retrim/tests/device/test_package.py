"""What the package loads."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys, retrim.device, retrim.device.probe; print('\\n'.join(sys.modules))"


def test_it_imports_nothing_but_python_itself() -> None:
    def modules(code: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return {name.partition(".")[0] for name in done.stdout.split()}

    new = modules(LOADED) - modules("import sys; print('\\n'.join(sys.modules))")
    assert new - set(sys.stdlib_module_names) <= {"numpy", "retrim"}
