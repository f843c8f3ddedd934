"""Lower triangular matrices from their entries."""

import torch

from solvers.numerics.triangular import lower_triangular, lower_triangular_by_rows


def test_entries_go_row_by_row_below_the_diagonal():
    found = lower_triangular(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]))
    assert found.tolist() == [[1.0, 0.0, 0.0], [4.0, 2.0, 0.0], [5.0, 6.0, 3.0]]


def test_batch_dimensions_lead():
    diagonal, below = torch.arange(24.0).reshape(2, 4, 3), -torch.arange(24.0).reshape(2, 4, 3)
    found = lower_triangular(diagonal, below)
    assert found.shape == (2, 4, 3, 3)
    assert torch.equal(found[1, 2], lower_triangular(diagonal[1, 2], below[1, 2]))


def test_one_dimension_has_nothing_below():
    assert lower_triangular(torch.tensor([2.0]), torch.zeros(0)).tolist() == [[2.0]]


def test_rows_as_they_lie_are_the_same_matrix():
    raw = torch.arange(24.0).reshape(2, 2, 6) - 12
    found = lower_triangular_by_rows(raw, 3, torch.exp)
    on, below = [0, 2, 5], [1, 3, 4]  # of rows of one, two and three entries
    assert torch.equal(found, lower_triangular(raw[..., on].exp(), raw[..., below]))
