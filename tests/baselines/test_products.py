"""Products with rows of a table against the rows copied out."""

import pytest
import torch

from seasonrec.baselines import products as module
from seasonrec.baselines.products import products


@pytest.fixture(params=[1, 4], ids=["few", "more_than_the_table_has"])
def parts(request):
    torch.manual_seed(0)
    rows = torch.tensor([[4, 0, 4], [2, 2, 1]]).repeat(1, request.param)  # a row twice, row 3 never, and no order
    return torch.randn(2, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True), rows


def test_products_are_those_with_the_rows_copied_out(parts):
    x, table, rows = parts
    by_hand = torch.stack([torch.stack([x[n] @ table[row] for row in of]) for n, of in enumerate(rows)])
    torch.testing.assert_close(products(x, table, rows), by_hand)


def test_gradients_are_those_of_the_rows_copied_out(parts):
    x, table, rows = parts
    weight = torch.arange(-2.0, rows.numel() - 2).view_as(rows)
    found = torch.autograd.grad((products(x, table, rows) * weight).sum(), (x, table))
    wanted = torch.autograd.grad((torch.einsum("nd,nmd->nm", x, table[rows]) * weight).sum(), (x, table))
    torch.testing.assert_close(found, wanted)
    assert (found[1][3] == 0).all()


def test_how_many_are_copied_at_once_changes_nothing(parts, monkeypatch):
    whole = products(*parts)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    torch.testing.assert_close(products(*parts), whole)


def test_without_a_row_there_is_no_product():
    assert products(torch.ones(0, 6), torch.ones(5, 6), torch.ones(0, 3, dtype=torch.int64)).shape == (0, 3)
