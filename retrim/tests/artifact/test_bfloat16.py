"""bfloat16 against torch's, over every kind of number there is."""

from __future__ import annotations

import numpy as np
import torch

from retrim.artifact.bfloat16 import from_bits, to_bits


def in_torch(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


def test_every_bfloat16_comes_back() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = from_bits(bits)
    real = ~np.isnan(values)
    np.testing.assert_array_equal(to_bits(values)[real], bits[real])
    assert np.isnan(from_bits(to_bits(values)[~real])).all()


def test_rounding_is_to_nearest_even_as_in_torch() -> None:
    upper = np.arange(1 << 16, dtype=np.uint32)[:, None] << np.uint32(16)
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = (upper | lower).view(np.float32).reshape(-1)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(to_bits(values), in_torch(values))


def test_nan_stays_nan_and_keeps_its_sign() -> None:
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    found = to_bits(bits.view(np.float32))
    assert np.isnan(from_bits(found)).all()
    np.testing.assert_array_equal(found >> 15, bits >> 31)


def test_shapes_and_strides_are_kept() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    np.testing.assert_array_equal(from_bits(to_bits(values)), values)
    assert to_bits(np.float32(1.5)).shape == from_bits(np.array(0x3FC0, np.uint16)).shape == ()
    assert to_bits(np.zeros((0, 4), np.float32)).shape == (0, 4)
