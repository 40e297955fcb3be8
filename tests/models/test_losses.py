"""Losses against numbers worked by hand."""

import math

import pytest
import torch

from huidurep.models.losses import contrastive_loss, prototype_loss, reconstruction_loss

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


# Two units of two spikes on a line: at -1 and 1, at 3 and 5; means 0 and 4.
UNITS = torch.tensor([[[-1.0], [1.0]], [[3.0], [5.0]]])


def test_prototype_loss_by_hand():
    # Own prototype: the other spike, 2 away, of variance 1 + 1: 4 / 2 = 2. The other unit's, of variance 1 + 1 / 2:
    # 25 * 2/3 from the outer spikes, 9 * 2/3 from the inner ones. Temperature 4 divides by 8.
    outer, inner = math.log(1 + math.exp((2 - 50 / 3) / 8)), math.log(1 + math.exp((2 - 6) / 8))
    loss = prototype_loss(UNITS, temperature=4.0)
    assert loss.item() == pytest.approx((outer + inner) / 2, abs=1e-6)
    # in the plane, turned and moved away, which changes no distance
    turned = UNITS * torch.tensor([0.6, 0.8]) + torch.tensor([7.0, -3.0])
    assert prototype_loss(turned, temperature=4.0).item() == pytest.approx(loss.item(), abs=1e-5)


def test_prototype_loss_of_three_spikes_by_hand():
    # Spike at 0, its unit's others at 2 and 4: 9 * 2/3 = 6. The other unit at 6, 6 and 6: 36 * 3/4 = 27.
    # Spike at 2, others at 0 and 4: 0; 16 * 3/4 = 12. Spike at 4, others at 0 and 2: 6; 4 * 3/4 = 3.
    # Spikes at 6: 0 from their own; the other unit's mean of 2: 16 * 3/4 = 12.
    units = torch.tensor([[[0.0], [2.0], [4.0]], [[6.0], [6.0], [6.0]]])
    rows = [math.log(1 + math.exp((own - other) / 2)) for own, other in ((6, 27), (0, 12), (6, 3), *[(0, 12)] * 3)]
    assert prototype_loss(units, temperature=1.0).item() == pytest.approx(sum(rows) / 6, abs=1e-6)


def test_prototypes_of_the_same_unit_and_of_other_recordings_are_left_out():
    # A third row, all of it at 0, would draw on the first unit's spikes.
    three = torch.cat([UNITS, torch.zeros(1, 2, 1)])
    whole, pair = prototype_loss(three, temperature=4.0), prototype_loss(UNITS, temperature=4.0)
    alone = prototype_loss(three, temperature=4.0, recordings=torch.tensor([0, 0, 1]))
    assert alone.item() == pytest.approx(2 / 3 * pair.item(), abs=1e-6) and whole > alone
    # the third is the first's unit again: told from the second only, 16 * 2/3 away
    same = prototype_loss(three, temperature=4.0, labels=torch.tensor([5, 2, 5]))
    near = [math.log(1 + math.exp((2 - away * 2 / 3) / 8)) for away in (25, 9)]
    second = [math.log(1 + 2 * math.exp((2 - away * 2 / 3) / 8)) for away in (9, 25)]
    third = [math.log(1 + math.exp(-16 * 2 / 3 / 8))] * 2
    assert same.item() == pytest.approx(sum(near + second + third) / 6, abs=1e-6)
    different = prototype_loss(three, temperature=4.0, labels=torch.tensor([1, 2, 3]), recordings=torch.ones(3))
    assert torch.equal(different, whole)


def test_prototype_loss_pulls_units_together_and_apart():
    units = UNITS.clone().requires_grad_()
    prototype_loss(units, temperature=4.0, labels=torch.tensor([1, 2]), recordings=torch.zeros(2)).backward()
    assert torch.isfinite(units.grad).all() and units.grad[0, 1] > 0 and units.grad[1, 0] < 0
    one = torch.zeros(1, 3, 2, requires_grad=True)
    loss = prototype_loss(one, temperature=1.0)
    loss.backward()
    assert loss == 0 and not one.grad.any()


def test_prototype_loss_is_exact_in_half_precision_and_far_from_the_origin():
    far = UNITS.double() * 0.1 + 1000
    assert prototype_loss(far.float(), temperature=0.04).item() == pytest.approx(
        prototype_loss(UNITS * 0.1, temperature=0.04).item(), rel=1e-2
    )
    assert prototype_loss(far, temperature=0.04).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_loss(UNITS.bfloat16(), temperature=4.0)
    assert loss.dtype == torch.float32 and torch.equal(loss, prototype_loss(UNITS, temperature=4.0))


def test_a_spike_alone_has_no_prototype():
    with pytest.raises(ValueError, match="at least 2 views.*found 1"):
        prototype_loss(UNITS[:, :1], temperature=1.0)


def test_reconstruction_loss_by_hand():
    found, clean = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])
    assert reconstruction_loss(found, clean).item() == pytest.approx((1 + 0 + 4 + 9) / 4)
    mask = torch.tensor([[[1.0], [0.0]]])
    assert reconstruction_loss(found, clean, mask=mask).item() == pytest.approx((1 + 0) / 2)
    assert reconstruction_loss(found, clean, mask=torch.zeros(1, 2, 1)).item() == 0.0
