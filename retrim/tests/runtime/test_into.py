"""`PackedMatrix.into`: no copies, on NumPy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrim.errors import ShapeError


def test_tensors_are_read_and_written_where_they_lie(instruction_set: str, make: Any) -> None:
    case = make(96, 50, idle=70)
    x = case.x(9)
    y = torch.full((9, 96), torch.nan)
    address = y.data_ptr()
    case.matrix.into(torch.from_numpy(x), y)
    assert y.data_ptr() == address
    np.testing.assert_array_equal(y.numpy(), case.matrix(x))


def test_rows_may_be_apart(make: Any) -> None:
    case = make(64, 50)
    x = torch.randn(9, 60)[:, 5:55]
    y = torch.full((9, 70), 7.5)
    case.matrix.into(x, y[:, 2:66])
    np.testing.assert_array_equal(y[:, 2:66].numpy(), case.matrix(x.numpy()))
    assert (y[:, :2] == 7.5).all()
    assert (y[:, 66:] == 7.5).all()


def test_kinds_mix(make: Any) -> None:
    case = make(64, 50, idle=40)
    x, y = case.x(4), np.empty((4, 64), np.float32)
    case.matrix.into(torch.from_numpy(x), y)
    np.testing.assert_array_equal(y, case.matrix(x))


def test_a_layer_of_one_input_and_one_output_needs_no_unit_stride(make: Any) -> None:
    case = make(1, 1, density=1.0)
    x, y = torch.randn(6, 2)[:, :1], torch.empty(6, 3)[:, 1:2]
    case.matrix.into(x.T.contiguous().T, y)
    np.testing.assert_array_equal(y.numpy(), case.matrix(x.numpy()))


def refused(make: Any, x: Any, y: Any, said: str) -> None:
    sentence = (
        "x and y must be float32 CPU arrays of shapes (tokens, 50) and (tokens, 64) with unit stride along "
        f"features, y writable, not {said}"
    )
    with pytest.raises(ShapeError) as caught:
        make(64, 50).matrix.into(x, y)
    assert str(caught.value) == sentence


def test_what_does_not_fit_is_named(make: Any) -> None:
    x, y = np.zeros((3, 50), np.float32), np.zeros((3, 64), np.float32)
    good_x, good_y = "float32 (3, 50)", "float32 (3, 64)"
    refused(make, x[:, :49], y, f"float32 (3, 49) and {good_y}")
    refused(make, x, y[:2], f"{good_x} and float32 (2, 64)")
    refused(make, x, y[:, :63], f"{good_x} and float32 (3, 63)")
    refused(make, x.astype(np.float64), y, f"float64 (3, 50) and {good_y}")
    refused(make, x, y.astype(np.float16), f"{good_x} and float16 (3, 64)")
    refused(make, x[0], y[0], "float32 (50,) and float32 (64,)")
    refused(make, torch.zeros(3, 100)[:, ::2], y, f"torch.float32 (3, 50) and {good_y}")
    refused(make, x, np.zeros((64, 3), np.float32).T, f"{good_x} and {good_y}")
    refused(make, [1.0], y, f"list and {good_y}")
    refused(make, torch.zeros(3, 50, device="meta"), y, f"torch.float32 (3, 50) and {good_y}")
    y.setflags(write=False)
    refused(make, x, y, f"{good_x} and {good_y}")
