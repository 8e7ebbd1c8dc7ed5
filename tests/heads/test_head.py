"""What every head keeps: those that are shipped, as their YAML makes them, and sums of them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn import functional as F

from seasonrec.data.candidates import Candidates
from seasonrec.heads.cf import Factors, Repeat
from seasonrec.heads.content import ProfileText
from seasonrec.heads.head import Sum, added, over
from seasonrec.heads.seasonal import AsOfDemand, HarmonicText

SHIPPED = [path for path in sorted((Path(__file__).parents[2] / "conf" / "head").glob("*/*.yaml")) if path.stem != "none"]


@pytest.fixture(params=SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def head(request, small_shop):
    torch.manual_seed(0)
    group, name = request.param.parent.name, request.param.stem
    with initialize_config_dir(str(request.param.parents[2]), version_base="1.3"):
        heads = compose("train", [f"head/{group}={name}"]).model.heads
    return instantiate(heads[group])(small_shop.sizes)


def randomised(head):
    """The head with no parameter left at 0, where it may have begun."""
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


def context(shop, batch):
    return shop.texts(batch.moment.context, candidates=batch.candidate)


def test_all_head_groups_are_shipped():
    assert {path.parent.name for path in SHIPPED} == {"seasonal", "cf", "content"}


def test_scores_of_candidates_are_columns_of_all_scores(head, small_shop):
    head = randomised(head)
    rows = np.array([0, 3, 4, 9, 17, 30, 31])
    candidates = Candidates(rows, np.zeros(len(rows), np.float32))
    batch, part = small_shop.batch(), small_shop.batch(candidates=candidates)
    with torch.no_grad():
        full, few = head(batch, context(small_shop, batch)), head(part, context(small_shop, part))
    assert full.shape in ((5, 32), (1, 32))
    assert few.shape == (len(full), len(rows))
    torch.testing.assert_close(few, full[:, rows])
    assert full.std() > 0


def test_users_without_history_score_finitely_and_like_one_another(head, small_shop):
    batch = small_shop.batch(users=(-1, 12, -1))
    with torch.no_grad():
        scores = randomised(head)(batch, context(small_shop, batch))
    assert scores.isfinite().all()
    torch.testing.assert_close(scores[0], scores[-1])


def test_a_query_s_scores_do_not_depend_on_its_neighbours_in_the_batch(head, small_shop):
    head = randomised(head)
    batch, alone = small_shop.batch(users=(2, 7, -1, 4)), small_shop.batch(users=(4,))
    with torch.no_grad():
        together, single = head(batch, context(small_shop, batch)), head(alone, context(small_shop, alone))
    torch.testing.assert_close(together[-1:], single)


def test_no_parameter_is_dead_after_the_first_steps(head, small_shop):
    batch = small_shop.batch(users=range(12))
    target, alive = torch.randn(12, 32), set()
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(head(batch, context(small_shop, batch)).expand(12, -1), target).backward()
        optimizer.step()
        alive |= {name for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    assert alive == {name for name, _ in head.named_parameters()}


def test_no_parameter_is_without_a_dimension_along_which_processes_could_share_it(head):
    assert all(parameter.dim() for parameter in head.parameters())


def test_a_sum_is_the_sum_of_its_parts(small_shop):
    parts = {"repeat": partial(Repeat, hidden=8), "demand": AsOfDemand, "text": ProfileText}
    head, batch = randomised(Sum(small_shop.sizes, parts)), small_shop.batch()
    with torch.no_grad():
        scores = [part(batch, context(small_shop, batch)) for part in head.parts.values()]
        torch.testing.assert_close(head(batch, context(small_shop, batch)), scores[0] + scores[1] + scores[2])
    assert list(head.parts) == list(parts)


def test_a_sum_of_parts_alike_for_all_queries_stays_one_row(small_shop):
    head, batch = Sum(small_shop.sizes, {"demand": AsOfDemand, "harmonic": HarmonicText}), small_shop.batch()
    assert head(batch, context(small_shop, batch)).shape == (1, 32)
    assert Sum(small_shop.sizes, {"factors": Factors})(batch, context(small_shop, batch)).shape == (5, 32)


@pytest.mark.parametrize("learns", [True, False])
def test_added_tables_are_their_sum_and_stay_what_they_were(learns):
    torch.manual_seed(0)
    parts = [torch.randn(shape) for shape in ((1, 5), (3, 5), (3, 5), (3, 1))]
    before = [part.clone() for part in parts]
    with torch.set_grad_enabled(learns):
        total = added(parts)
    assert torch.equal(total, ((parts[0] + parts[1]) + parts[2]) + parts[3])
    assert all(map(torch.equal, parts, before))
    assert added(parts[:1]) is parts[0]


def test_a_result_is_written_over_its_table_only_where_nothing_learns_and_it_fits():
    table, wide, row = torch.full((3, 5), 2.0), torch.full((3, 5), 3.0), torch.full((1, 5), 7.0)
    assert over(torch.mul, table, row) is not table
    with torch.no_grad():
        assert over(torch.mul, row, wide) is not row, "a row for each query does not fit into one for all"
        assert (row == 7).all()
        assert over(torch.mul, table, row) is table
    assert (table == 14).all()


def test_heads_say_the_same_to_the_last_digit_where_nothing_learns(head, small_shop):
    head, batch = randomised(head).eval(), small_shop.batch()
    learning = head(batch, context(small_shop, batch))
    with torch.no_grad():
        silent = head(batch, context(small_shop, batch))
    assert learning.requires_grad
    assert torch.equal(learning, silent)
