"""Losses against numbers worked by hand."""

import math

import pytest
import torch

from huidurep.losses import contrastive_loss, reconstruction_loss

# Three unit vectors in the plane, 90 degrees apart: similarities of 1, 0 and -1.
QUERY = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def test_contrastive_loss_by_hand():
    # Rows of similarity: (1, 0, -1), (0, 1, 0), (-1, 0, 1); temperature 0.5 doubles them.
    outer = math.log(1 + math.exp(-2) + math.exp(-4))
    middle = math.log(1 + 2 * math.exp(-2))
    expected = 2 * 0.5 * (2 * outer + middle) / 3
    assert contrastive_loss(QUERY, QUERY, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_loss_pulls_the_matching_row():
    # Keys turned by one row: each query is compared with another's key.
    key = QUERY.roll(1, 0)
    rows = [math.log(math.exp(2 * t) + math.exp(2 * a) + math.exp(2 * b)) - 2 * t for t, a, b in
            ((-1, 1, 0), (0, 0, 1), (0, -1, 1))]  # fmt: skip
    assert contrastive_loss(QUERY, key, temperature=0.5).item() == pytest.approx(sum(rows) / 3, abs=1e-6)


def test_equal_similarities_give_the_logarithm_of_the_batch():
    same = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    assert contrastive_loss(same, same, temperature=0.2).item() == pytest.approx(0.4 * math.log(8), abs=1e-6)


def test_labels_take_other_pairs_of_the_unit_out_of_the_negatives():
    # Rows 0 and 2 are one unit: row 0 is compared with itself and row 1 only.
    expected = (2 * math.log(1 + math.exp(-2)) + math.log(1 + 2 * math.exp(-2))) / 3
    loss = contrastive_loss(QUERY, QUERY, temperature=0.5, labels=torch.tensor([4, 7, 4]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    different = contrastive_loss(QUERY, QUERY, temperature=0.5, labels=torch.tensor([1, 2, 3]))
    assert torch.equal(different, contrastive_loss(QUERY, QUERY, temperature=0.5))
    alone = contrastive_loss(QUERY, QUERY, temperature=0.5, labels=torch.tensor([1, 1, 1]))
    assert alone.item() == pytest.approx(0.0, abs=1e-7)


def test_recordings_take_pairs_of_other_recordings_out_of_the_negatives():
    # Rows 0 and 1 are of one recording: two similarities of 1 and 0 each. Row 2 is alone in its own: nothing to tell.
    expected = 2 * math.log(1 + math.exp(-2)) / 3
    loss = contrastive_loss(QUERY, QUERY, temperature=0.5, recordings=torch.tensor([3, 3, 8]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    # Rows 0 and 2, opposite to each other: similarities of 1 and -1.
    loss = contrastive_loss(QUERY, QUERY, temperature=0.5, recordings=torch.tensor([3, 8, 3]))
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-4)) / 3, abs=1e-6)
    together = contrastive_loss(QUERY, QUERY, temperature=0.5, recordings=torch.tensor([5, 5, 5]))
    assert torch.equal(together, contrastive_loss(QUERY, QUERY, temperature=0.5))


def test_negatives_are_other_units_of_the_same_recording():
    # Row 0: row 1 is of its recording, row 2 of its unit, row 3 of neither: one negative.
    query = torch.cat([QUERY, torch.tensor([[0.0, -1.0]])]).requires_grad_()
    recordings, labels = torch.tensor([0, 0, 0, 1]), torch.tensor([4, 7, 4, 9])
    loss = contrastive_loss(query, query.detach(), temperature=0.5, labels=labels, recordings=recordings)
    rows = [math.log(1 + math.exp(-2)), math.log(1 + 2 * math.exp(-2)), math.log(1 + math.exp(-2)), 0.0]
    assert loss.item() == pytest.approx(sum(rows) / 4, abs=1e-6)
    loss.backward()
    assert torch.isfinite(query.grad).all() and not query.grad[3].any()


def test_labels_give_finite_gradients():
    query = QUERY.clone().requires_grad_()
    contrastive_loss(query, QUERY, temperature=0.5, labels=torch.tensor([4, 7, 4])).backward()
    assert torch.isfinite(query.grad).all()


def test_reconstruction_loss_by_hand():
    found, clean = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])
    assert reconstruction_loss(found, clean).item() == pytest.approx((1 + 0 + 4 + 9) / 4)
    mask = torch.tensor([[[1.0], [0.0]]])
    assert reconstruction_loss(found, clean, mask=mask).item() == pytest.approx((1 + 0) / 2)
    assert reconstruction_loss(found, clean, mask=torch.zeros(1, 2, 1)).item() == 0.0
