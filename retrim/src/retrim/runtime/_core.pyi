from typing import Any

class Matrix:
    def __init__(
        self,
        *,
        starts: Any,
        columns: Any,
        rows: Any | None,
        values: Any,
        bias: Any,
        panel_values: Any,
        outputs: int,
        inputs: int,
        height: int,
        packed_rows: int,
        activation: int,
    ) -> None: ...
    def apply(self, x: Any, y: Any, isa: int, threads: int) -> None: ...

def isas() -> list[tuple[str, bool]]: ...
