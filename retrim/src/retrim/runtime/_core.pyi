from typing import Any, overload

class Matrix:
    @overload
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
    @overload
    def __init__(
        self,
        *,
        precision: int,
        list_rows: int,
        ends: Any,
        short_columns: Any | None,
        columns: Any | None,
        values: Any,
        bias: Any,
        segments: int,
        outputs: int,
        inputs: int,
        packed_rows: int,
        activation: int,
    ) -> None: ...
    def apply(
        self,
        x: Any,
        y: Any,
        residual: Any | None,
        isa: int,
        threads: int,
        variant: int = 0,
        level: int = 0,
    ) -> None: ...

def repack(
    *,
    rows: int,
    halves: bool,
    starts: Any,
    short_columns: Any | None,
    columns: Any | None,
    values: Any,
    bits: Any,
    ends: Any,
    to_columns: Any,
    to_values: Any,
    threads: int,
) -> None: ...
def isas() -> list[tuple[str, bool]]: ...
