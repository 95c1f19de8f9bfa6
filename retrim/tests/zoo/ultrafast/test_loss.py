import math

import pytest
import torch

from retrim.errors import ConfigError
from retrim.zoo.ultrafast.loss import LaneLoss, classification, expectation, shape, similarity


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(2, 6, 5, 3, dtype=torch.float64)


@pytest.fixture
def labels():
    torch.manual_seed(1)
    return torch.randint(0, 6, (2, 5, 3))


def entries(logits):
    n, _, rows, lanes = logits.shape
    return [(i, r, k) for i in range(n) for r in range(rows) for k in range(lanes)]


def softmax(values):
    top = [math.exp(value) for value in values]
    return [value / sum(top) for value in top]


def test_classification_entry_by_entry(logits, labels):
    total = 0.0
    for i, r, k in entries(logits):
        p = softmax(logits[i, :, r, k].tolist())[int(labels[i, r, k])]
        total -= (1 - p) ** 2 * math.log(p)
    assert classification(logits, labels).item() == pytest.approx(total / 30)


def test_without_gamma_it_is_cross_entropy(logits, labels):
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(classification(logits, labels, 0.0), expected)


def test_expectation_entry_by_entry(logits):
    found = expectation(logits)
    for i, r, k in entries(logits):
        shares = softmax(logits[i, :-1, r, k].tolist())
        assert found[i, r, k].item() == pytest.approx(sum(cell * share for cell, share in enumerate(shares)))


def test_similarity_entry_by_entry(logits):
    total, count = 0.0, 0
    for i in range(2):
        for cell in range(6):
            for r in range(4):
                for k in range(3):
                    d = abs((logits[i, cell, r, k] - logits[i, cell, r + 1, k]).item())
                    total += 0.5 * d * d if d < 1 else d - 0.5
                    count += 1
    assert similarity(logits).item() == pytest.approx(total / count)


def test_straight_lanes_have_no_shape_loss():
    logits = torch.full((1, 21, 5, 2), -50.0, dtype=torch.float64)
    for row in range(5):
        logits[0, 3 + 2 * row, row, 0] = 50  # straight
        logits[0, 3 + row * row, row, 1] = 50  # second difference 2 everywhere
    assert shape(logits).item() == pytest.approx((0 + 2) / 2, abs=1e-9)


def test_the_sum_is_weighted(logits, labels):
    loss = LaneLoss(gamma=1.0, similarity=0.5, shape=2.0)
    expected = classification(logits, labels, 1.0) + 0.5 * similarity(logits) + 2 * shape(logits)
    torch.testing.assert_close(loss(logits, labels), expected)
    torch.testing.assert_close(LaneLoss(similarity=0.0)(logits, labels), classification(logits, labels, 2.0))


def test_weights_are_checked():
    with pytest.raises(ConfigError) as raised:
        LaneLoss(similarity=-1.0)
    assert str(raised.value) == "similarity must be a number >= 0, not -1.0"
