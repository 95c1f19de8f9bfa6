from typing import Any

class Matrix:
    def __init__(
        self,
        *,
        precision: int,
        group: int,
        starts: Any,
        columns: Any,
        rows: Any | None,
        scales: Any | None,
        values: Any,
        bias: Any,
        idle: Any,
        idle_values: Any,
        outputs: int,
        inputs: int,
        height: int,
        packed_rows: int,
        activation: int,
        input_scale: float,
        output_scale: float,
    ) -> None: ...
    def apply(
        self, x: Any, y: Any, residual: Any | None, isa: int, threads: int, variant: int = 0
    ) -> None: ...

def isas() -> list[tuple[str, bool]]: ...
