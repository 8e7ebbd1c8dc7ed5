"""Losses against torch's own, scikit-learn's and loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error
from torch.nn import functional as F

from seasonrec.data.candidates import CandidateSampler
from seasonrec.errors import ConfigError, DataError
from seasonrec.losses import CrossEntropy, JointLoss, Truth, bpr, cross_entropy, squared_error


def truth_of(pairs, own=(), rating=None, log_inclusion=None, weight=None):
    """Truth of (query, column) pairs, and of those that the users had bought before."""
    (query, column), (own_query, own_column) = (torch.tensor(list(p), dtype=torch.int64).reshape(-1, 2).T for p in (pairs, own))
    is_new = torch.tensor([pair not in set(own) for pair in pairs], dtype=torch.bool)
    return Truth(query, column, rating, own_query, own_column, is_new, log_inclusion, weight)


@pytest.fixture
def scores():
    return torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


OWN = [(0, 1), (0, 4), (1, 2), (3, 0), (3, 7), (3, 11), (4, 5)]
PAIRS = [(0, 1), (0, 6), (1, 3), (2, 8), (2, 9), (2, 10), (2, 0), (3, 7), (4, 2)]


def test_with_one_truth_item_each_it_is_torch_s_cross_entropy(scores):
    column = [3, 0, 11, 7, 7]
    ours = cross_entropy(scores, truth_of(list(enumerate(column))))
    torch.testing.assert_close(ours, F.cross_entropy(scores, torch.tensor(column)))


def test_a_basket_weighs_the_root_of_its_size(scores):
    log_p = scores.detach().log_softmax(1)
    # one item weighs 1; four weigh 1 / sqrt(4) each, 2 together
    expected = -(log_p[0, 3] + 0.5 * (log_p[2, 8] + log_p[2, 9] + log_p[2, 10] + log_p[2, 0])) / (1 + 2)
    torch.testing.assert_close(cross_entropy(scores, truth_of([(0, 3), (2, 8), (2, 9), (2, 10), (2, 0)])), expected)


def test_new_only_is_a_softmax_over_what_the_user_had_not_bought(scores):
    plain, own, pairs = scores.detach().numpy(), set(OWN), [pair for pair in PAIRS if pair not in OWN]
    total = weights = 0.0
    for query, column in pairs:
        unowned = [c for c in range(12) if (query, c) not in own]
        weight = 1 / np.sqrt(sum(q == query for q, _ in pairs))
        total -= weight * (plain[query, column] - np.log(np.exp(plain[query, unowned]).sum()))
        weights += weight
    assert len(pairs) < len(PAIRS)
    assert cross_entropy(scores, truth_of(PAIRS, OWN), new_only=True).item() == pytest.approx(total / weights)


def test_new_only_gives_no_gradient_to_what_was_bought_before(scores):
    cross_entropy(scores, truth_of(PAIRS, OWN), new_only=True).backward()
    assert all(scores.grad[pair] == 0 for pair in OWN)
    assert scores.grad[3].eq(0).all()  # user 3 bought nothing new
    assert scores.grad[[0, 1, 2, 4]].ne(0).any(1).all()


def test_a_batch_of_repeats_only_has_nothing_new_to_learn(scores):
    loss = cross_entropy(scores, truth_of([(0, 1), (3, 7)], OWN), new_only=True)
    loss.backward()
    assert loss == 0
    assert scores.grad.eq(0).all()


def test_a_user_who_has_bought_all_that_was_drawn_leaves_gradients_finite(scores):
    inclusion = torch.zeros(12)
    inclusion[[6, 8]] = torch.inf  # there as truth of others only
    own = [(0, column) for column in range(12) if column not in (6, 8)]
    cross_entropy(scores, truth_of([(0, 1), (1, 6), (2, 8)], own, log_inclusion=inclusion), new_only=True).backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0].eq(0).all()
    assert scores.grad[1, 6] < 0


@pytest.mark.parametrize("new_only", [False, True])
def test_a_sample_of_everything_is_the_full_loss(scores, new_only):
    full = cross_entropy(scores, truth_of(PAIRS, OWN), new_only=new_only)
    sampled = cross_entropy(scores, truth_of(PAIRS, OWN, log_inclusion=torch.zeros(12)), new_only=new_only)
    torch.testing.assert_close(sampled, full)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores)[0] for loss in (sampled, full)))


@pytest.mark.parametrize("new_only", [False, True])
def test_the_sampled_denominator_is_unbiased(new_only):
    rng, n_items = np.random.default_rng(0), 40
    scores = torch.from_numpy(rng.normal(size=(1, n_items)))
    sampler, own_items = CandidateSampler(10), np.array([2, 5, 30])
    inclusion = sampler.inclusion(rng.integers(0, 30, n_items))
    truth_item = int(np.argmin(inclusion))  # seldom drawn, always there
    denominators = []
    for _ in range(6_000):
        drawn = sampler.draw(inclusion, np.array([truth_item]), rng)
        at = np.searchsorted(drawn.item, truth_item)
        own = [(0, int(c)) for c in np.flatnonzero(np.isin(drawn.item, own_items))]
        part, log_inclusion = scores[:, drawn.item], torch.from_numpy(drawn.log_inclusion).double()
        loss = cross_entropy(part, truth_of([(0, int(at))], own, log_inclusion=log_inclusion), new_only=new_only)
        denominators.append(float((loss + part[0, at]).exp()))
    kept = np.setdiff1d(np.arange(n_items), own_items) if new_only else np.arange(n_items)
    error = np.std(denominators) / np.sqrt(len(denominators))
    assert abs(np.mean(denominators) - scores[0, kept].exp().sum().item()) < 4 * error
    assert error < 0.02 * np.mean(denominators)  # or the line above would prove nothing


def test_a_drawn_item_stands_for_its_kind_and_one_s_own_truth_for_itself(scores):
    inclusion = np.linspace(0.1, 1, 12)
    pairs = [(0, 2), (0, 5), (1, 2)]
    loss = cross_entropy(scores, truth_of(pairs, log_inclusion=torch.from_numpy(np.log(inclusion))))
    plain, total = scores.detach().numpy(), 0.0
    for query, column in pairs:
        own = [c for q, c in pairs if q == query]
        denominator = sum(np.exp(plain[query, c]) / (1 if c in own else inclusion[c]) for c in range(12))
        total -= (plain[query, column] - np.log(denominator)) / np.sqrt(len(own))
    assert loss.item() == pytest.approx(total / (2 / np.sqrt(2) + 1))


def test_truth_of_another_query_that_was_not_drawn_stands_for_nothing(scores):
    log_inclusion = torch.linspace(-2, 0, 12, dtype=torch.float64)
    log_inclusion[6] = torch.inf
    pairs = [(0, 6), (1, 3), (2, 3), (3, 3), (4, 3)]
    cross_entropy(scores, truth_of(pairs, log_inclusion=log_inclusion)).backward()
    assert scores.grad[1:, 6].eq(0).all()
    assert scores.grad[0, 6] < 0
    assert scores.grad[:, 7].gt(0).all()


@pytest.mark.parametrize("new", [0.0, 0.3, 1.0])
def test_the_shares_of_the_two_lists_add_up(scores, new):
    truth = truth_of(PAIRS, OWN)
    both = (1 - new) * cross_entropy(scores, truth) + new * cross_entropy(scores, truth, new_only=True)
    torch.testing.assert_close(CrossEntropy(new)(scores, truth), both)


@pytest.mark.parametrize("new_only", [False, True])
@pytest.mark.parametrize("q", [0.25, 1.0])
def test_a_focus_has_the_gradient_of_generalised_cross_entropy(scores, q, new_only):
    truth = truth_of(PAIRS, OWN)
    logits, pairs = scores, [pair for pair in PAIRS if not (new_only and pair in OWN)]
    if new_only:
        logits = scores.masked_fill(torch.tensor([[(row, column) in OWN for column in range(12)] for row in range(5)]), -torch.inf)
    query, column = torch.tensor(pairs).T
    p = logits.softmax(1)[query, column]
    weight = torch.bincount(query)[query].rsqrt()
    generalised = (weight * (1 - p**q) / q).sum() / (weight * p.detach() ** q).sum()
    ours = cross_entropy(scores, truth, new_only=new_only, focus=q)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (ours, generalised)))
    torch.testing.assert_close(CrossEntropy(1.0 if new_only else 0.0, q)(scores, truth), ours)


def test_a_focus_on_truth_that_is_all_but_impossible_stays_finite():
    scores = torch.tensor([[0.0, -5_000.0], [0.0, -5_010.0]], requires_grad=True)
    loss = cross_entropy(scores, truth_of([(0, 1), (1, 1)]), focus=1.0)
    loss.backward()
    # the second counts exp(-10) of the first
    torch.testing.assert_close(loss, torch.tensor((5_000 + 5_010 * np.exp(-10)) / (1 + np.exp(-10)), dtype=torch.float32))
    assert scores.grad.isfinite().all()


COUNTS = torch.tensor([1, 2, 1, 1, 3, 1, 1, 2, 1.5])


@pytest.mark.parametrize("new_only", [False, True])
def test_what_counts_more_weighs_more_among_all(scores, new_only):
    alone = [
        (cross_entropy(scores, truth_of([pair], OWN), new_only=new_only).item(), float(count), pair)
        for pair, count in zip(PAIRS, COUNTS, strict=True)
        if not (new_only and pair in OWN)
    ]
    in_basket = [sum(q == query for _, _, (q, _) in alone) for _, _, (query, _) in alone]
    weights = [count / np.sqrt(n) for (_, count, _), n in zip(alone, in_basket, strict=True)]
    expected = np.average([term for term, _, _ in alone], weights=weights)
    assert cross_entropy(scores, truth_of(PAIRS, OWN, weight=COUNTS), new_only=new_only).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [cross_entropy, bpr, squared_error])
def test_what_counts_alike_counts_as_without_weights(scores, loss):
    found = []
    for weight in (None, torch.full((len(PAIRS),), 3.0)):
        torch.manual_seed(0)
        found.append(loss(scores, truth_of(PAIRS, OWN, torch.arange(9.0, dtype=torch.float64), weight=weight)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("new", [-0.1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(new):
    with pytest.raises(ConfigError, match=r"new is .*, wanted a share in \[0, 1\]"):
        CrossEntropy(new)
    with pytest.raises(ConfigError, match=r"focus is .*, wanted a share in \[0, 1\]"):
        CrossEntropy(focus=new)


@pytest.mark.parametrize("seed", range(3))
def test_bpr_is_that_of_a_loop_with_the_same_negatives(scores, seed):
    torch.manual_seed(seed)
    ours = bpr(scores, truth_of(PAIRS, OWN))
    torch.manual_seed(seed)
    negatives = torch.randint(12, (len(PAIRS),)).tolist()
    taken = {*PAIRS, *OWN}
    terms = [
        np.log1p(np.exp(-(scores[query, column] - scores[query, negative]).item()))
        for (query, column), negative in zip(PAIRS, negatives, strict=True)
        if (query, negative) not in taken
    ]
    assert len(terms) > 0
    assert ours.item() == pytest.approx(np.mean(terms))


def test_bpr_of_what_counts_twice_is_that_of_two(scores):
    pairs, counts = [(0, 6), (1, 3), (2, 8)], torch.tensor([1.0, 2.0, 1.0])
    terms = []
    for pair in pairs:
        torch.manual_seed(3)
        negatives = torch.randint(12, (3,)).tolist()
        negative = negatives[pairs.index(pair)]
        terms.append(-np.log(1 / (1 + np.exp(-(scores[pair] - scores[pair[0], negative]).item()))))
        assert (pair[0], negative) not in {*pairs, *OWN}, "or it would not count"
    torch.manual_seed(3)
    assert bpr(scores, truth_of(pairs, OWN, weight=counts)).item() == pytest.approx(np.average(terms, weights=[1, 2, 1]))


def test_bpr_with_nothing_left_to_compare_is_0():
    scores = torch.randn(1, 2, requires_grad=True)
    loss = bpr(scores, truth_of([(0, 0)], [(0, 1)]))
    loss.backward()
    assert loss == 0
    assert scores.grad.eq(0).all()


def test_squared_error_is_that_of_scikit_learn(scores):
    rating = torch.tensor([1, 5, 3, 3, 4, 2, 5, 1, 4], dtype=torch.float64)
    predicted = [scores[pair].item() for pair in PAIRS]
    assert squared_error(scores, truth_of(PAIRS, rating=rating)).item() == pytest.approx(mean_squared_error(rating, predicted))


def test_squared_error_of_what_counts_more_is_that_of_scikit_learn(scores):
    rating = torch.tensor([1, 5, 3, 3, 4, 2, 5, 1, 4], dtype=torch.float64)
    predicted = [scores[pair].item() for pair in PAIRS]
    expected = mean_squared_error(rating, predicted, sample_weight=COUNTS)
    assert squared_error(scores, truth_of(PAIRS, rating=rating, weight=COUNTS)).item() == pytest.approx(expected)


def test_squared_error_without_ratings_names_the_key_to_change(scores):
    with pytest.raises(DataError, match=r"squared_error: the data have no ratings; .* loss\.terms"):
        squared_error(scores, truth_of(PAIRS))


WEIGHTS = {"seasonal": 0.7, "cf": 0.2, "content": 3.0}


def test_the_gradient_of_the_total_is_the_weighted_sum_of_the_tasks_gradients():
    heads = {task: torch.randn(5, 12, requires_grad=True) for task in WEIGHTS}
    truth = truth_of(PAIRS, OWN)
    terms = {"seasonal": CrossEntropy(0.3), "cf": CrossEntropy(), "content": bpr}
    mixed = sum(heads.values())
    torch.manual_seed(0)
    losses = JointLoss(WEIGHTS, terms)(mixed, heads, truth)
    assert list(losses) == ["cf", "content", "seasonal", "total"]
    total = torch.autograd.grad(losses["total"], heads.values(), retain_graph=True)
    for task, found in zip(heads, total, strict=True):
        own = [
            torch.autograd.grad(losses[term], heads[task], retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for term in WEIGHTS
        ]
        torch.testing.assert_close(found, sum(weight * part for weight, part in zip(WEIGHTS.values(), own, strict=True)))
    # The seasonal term is on the mix, each other one on its own head.
    torch.testing.assert_close(losses["seasonal"], CrossEntropy(0.3)(mixed, truth))
    torch.testing.assert_close(losses["cf"], cross_entropy(heads["cf"], truth))


def test_a_head_that_scores_all_queries_alike_has_its_own_loss_too(scores):
    loss = JointLoss({"seasonal": 1, "cf": 1}, {"seasonal": cross_entropy, "cf": cross_entropy})
    row = scores[:1]
    terms = loss(scores, {"seasonal": scores, "cf": row}, truth_of(PAIRS))
    torch.testing.assert_close(terms["cf"], cross_entropy(row.repeat(5, 1), truth_of(PAIRS)))


def test_a_mixed_task_of_weight_0_counts_1(scores):
    loss = JointLoss({"seasonal": 0, "cf": 0.5}, {"seasonal": cross_entropy, "cf": cross_entropy})
    terms = loss(scores, {"cf": 2 * scores}, truth_of(PAIRS))
    torch.testing.assert_close(terms["total"], terms["seasonal"] + 0.5 * terms["cf"])


def test_a_task_takes_part_if_it_has_a_head_and_a_weight():
    terms = dict.fromkeys(("seasonal", "cf", "content"), cross_entropy)
    loss = JointLoss({"seasonal": 1, "cf": 0, "content": 2}, terms)
    assert loss.active({"cf": ..., "content": ..., "other": ..., "seasonal": ...}) == ["content", "seasonal"]


@pytest.mark.parametrize(
    ("weights", "terms", "message"),
    [
        ({"seasonal": 1, "cf": -0.2}, ("seasonal", "cf"), r"loss\.weights must not be negative, got \{'cf': -0\.2\}"),
        ({"seasonal": 0, "cf": 0}, ("seasonal", "cf"), r"loss\.weights are all 0 .* give one task a positive weight"),
        ({"seasonal": 1, "cf": 1}, ("seasonal",), r"loss\.terms lack \['cf'\]; .* loss\.terms\.cf="),
        ({"cf": 1}, ("cf",), r"loss\.terms lack \['seasonal'\]"),  # the mixed score has a loss in any case
    ],
)
def test_weights_and_terms_that_do_not_fit_are_refused(weights, terms, message):
    with pytest.raises(ConfigError, match=message):
        JointLoss(weights, dict.fromkeys(terms, cross_entropy))


@pytest.mark.parametrize("loss", [cross_entropy, bpr, CrossEntropy(new=0.5)])
def test_a_loss_that_compares_items_refuses_the_truth_alone_and_that_of_ratings_does_not(scores, loss):
    alone, one_more = torch.full((12,), torch.inf), torch.full((12,), torch.inf)
    one_more[7] = -0.5
    with pytest.raises(ConfigError, match=r"sampling\.candidates=null leaves nothing beside the truth"):
        loss(scores, truth_of(PAIRS, OWN, log_inclusion=alone))
    assert loss(scores, truth_of(PAIRS, OWN, log_inclusion=one_more)).isfinite()
    rating = torch.full((len(PAIRS),), 4.0, dtype=torch.float64)
    assert squared_error(scores, truth_of(PAIRS, OWN, rating, alone)).isfinite()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (lambda scores: scores.mean(), r"^loss\.terms\.cf is called with scores and truth, which it does not take: too many positional"),
        (0.5, r"^loss\.terms\.cf is a float, wanted what is called with scores and truth$"),
    ],
)
def test_a_term_that_cannot_be_called_is_an_error_before_anything_learns(term, message):
    with pytest.raises(ConfigError, match=message):
        JointLoss({"seasonal": 1.0, "cf": 1.0}, {"seasonal": CrossEntropy(), "cf": term})


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (lambda scores, truth: scores.mean(1), r"^loss\.terms\.cf gave a tensor of shape \[5\], wanted a scalar, the mean over the batch$"),
        (lambda scores, truth: 0.5, r"^loss\.terms\.cf gave a float, wanted a scalar"),
        (lambda scores, truth: scores.detach().exp().mean(), r"^loss\.terms\.cf gave a number that is not made of the scores"),
    ],
)
def test_a_term_that_nothing_can_be_learnt_by_is_an_error_that_names_it(scores, term, message):
    loss = JointLoss({"seasonal": 1.0, "cf": 1.0}, {"seasonal": CrossEntropy(), "cf": term})
    with pytest.raises(ConfigError, match=message):
        loss(scores, {"seasonal": scores, "cf": scores}, truth_of(PAIRS))
