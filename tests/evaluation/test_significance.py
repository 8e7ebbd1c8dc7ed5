"""Paired comparisons on differences whose answer is known."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from seasonrec.errors import DataError
from seasonrec.evaluation.evaluate import Column, Evaluation
from seasonrec.evaluation.significance import compare, holm, ratio, standard_errors

PAIRS = [("all", "ndcg@10"), ("all", "recall@50")]


def evaluation(values, user=None):
    values = np.asarray(values, float)
    user = np.arange(len(values)) if user is None else user
    columns = (Column("all", "ndcg@10", 10), Column("all", "recall@50", 50))
    return Evaluation(user, np.zeros(len(values), int), columns[: values.shape[1]], values, {})


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, and a later one is never smaller.
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested_and_stops_at_one():
    np.testing.assert_allclose(holm(np.array([np.nan, 0.6, 0.02])), [np.nan, 0.6, 0.04])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])


def test_p_and_interval_agree_with_the_paired_t_test_on_many_users():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 2))
    b = a + rng.normal(size=(400, 2)) - [0.1, 0]
    row = compare(evaluation(a), {"b": evaluation(b)}, pairs=PAIRS).row(0, named=True)
    theirs = ttest_rel(a[:, 0], b[:, 0])
    assert row["difference"] == pytest.approx((a - b)[:, 0].mean())
    assert row["p"] == pytest.approx(theirs.pvalue, abs=0.01)
    assert row["low"] == pytest.approx(theirs.confidence_interval().low, abs=0.005)
    assert row["high"] == pytest.approx(theirs.confidence_interval().high, abs=0.005)
    standard_error = (a - b)[:, 0].std() / np.sqrt(400)
    assert row["detectable"] == pytest.approx(2.8 * standard_error, rel=0.05)


def test_true_differences_of_the_detectable_size_are_found_four_times_in_five():
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(200):
        gaps = rng.normal(2.8 / np.sqrt(150), 1, size=(150, 1))  # 2.8 standard errors of the mean of 150 users
        row = compare(evaluation(gaps), {"b": evaluation(gaps * 0)}, pairs=PAIRS[:1], n_resamples=500, seed=seed)
        found += row["p"][0] < 0.05
    assert 0.7 < found / 200 < 0.9


def test_the_more_tests_are_corrected_for_the_more_standard_errors_a_difference_must_measure():
    assert standard_errors() == pytest.approx(1.96 + 0.8416, abs=1e-3)
    assert standard_errors(5) == pytest.approx(2.5758 + 0.8416, abs=1e-3)  # each of five at .01
    a, rng = evaluation(np.zeros((100, 2))), np.random.default_rng(0)
    table = compare(a, {name: evaluation(rng.normal(size=(100, 2))) for name in ("b", "c")}, pairs=PAIRS)
    np.testing.assert_allclose(table["detectable_holm"] / table["detectable"], standard_errors(4) / standard_errors())


def test_differences_that_holm_can_detect_are_found_four_times_in_five_among_four_tests():
    rng, found = np.random.default_rng(0), 0
    for seed in range(200):
        gaps = rng.normal(0, 1, size=(150, 4))
        gaps[:, 0] += standard_errors(4) / np.sqrt(150)
        columns = tuple(Column(f"slice{n}", "ndcg@10", 10) for n in range(4))
        one, zero = (Evaluation(np.arange(150), np.zeros(150, int), columns, values, {}) for values in (gaps, gaps * 0))
        pairs = [(column.slice, column.metric) for column in columns]
        found += compare(one, {"b": zero}, pairs=pairs, n_resamples=1_000, seed=seed)["p_holm"][0] < 0.05
    assert 0.7 < found / 200 < 0.9


def test_a_ratio_and_its_interval_by_hand():
    # Each user's value is thrice the other method's, so every resample says 3.
    values = np.random.default_rng(0).uniform(1, 2, size=(50, 2))
    assert ratio(evaluation(3 * values), evaluation(values), PAIRS[0], n_resamples=100) == pytest.approx((3, 3, 3))


def test_a_ratio_of_few_users_has_no_interval():
    times, low, high = ratio(evaluation(np.full((9, 2), 3.0)), evaluation(np.ones((9, 2))), PAIRS[0], n_resamples=100)
    assert times == 3
    assert np.isnan([low, high]).all()


def test_a_ratio_to_nothing_is_nothing():
    zero = evaluation(np.zeros((20, 2)))
    assert np.isnan(ratio(evaluation(np.ones((20, 2))), zero, PAIRS[0], n_resamples=10)).all()


def test_a_method_against_itself_differs_nowhere():
    a = evaluation(np.random.default_rng(0).normal(size=(50, 2)))
    table = compare(a, {"itself": a}, pairs=PAIRS)
    assert table["difference"].to_list() == [0, 0]
    assert table["p"].to_list() == [1, 1]
    assert table["detectable"].to_list() == [0, 0]


def test_one_eager_user_does_not_make_a_difference_significant():
    gaps = np.append(np.ones(300), [-0.2, -0.1, 0.1, 0.2, -0.1, 0.1, -0.2, 0.2, -0.1])[:, None]
    zero = evaluation(gaps * 0)
    as_users = compare(evaluation(gaps), {"b": zero}, pairs=PAIRS[:1])
    one_user = np.append(np.zeros(300, int), np.arange(1, 10))
    clustered = compare(evaluation(gaps, one_user), {"b": evaluation(gaps * 0, one_user)}, pairs=PAIRS[:1])
    assert as_users["p"][0] < 0.001
    assert clustered["p"][0] > 0.05


@pytest.mark.parametrize(("n_users", "tested"), [(1, False), (9, False), (10, True)])
def test_a_few_users_have_a_difference_and_no_test(n_users, tested):
    # However often they are drawn, users who all gain by the same say that everybody gains.
    gaps = np.full((100, 2), np.nan)
    gaps[:, 0] = np.random.default_rng(0).normal(size=100)
    gaps[:n_users, 1] = 0.1
    table = compare(evaluation(gaps), {"b": evaluation(gaps * 0)}, pairs=PAIRS)
    few = table.row(1, named=True)
    assert (few["difference"], few["n_queries"]) == (pytest.approx(0.1), n_users)
    assert all((few[name] is not None) == tested for name in ("low", "high", "p", "p_holm", "detectable", "detectable_holm"))
    many = table.row(0, named=True)
    assert (many["detectable_holm"] > many["detectable"]) == tested  # what was not tested is of no family
    cells = evaluation(gaps).table("a", "test").filter(slice="all", metric="recall@50").row(0, named=True)
    assert (cells["low"] is not None, cells["high"] is not None) == (tested, tested)


def test_holm_corrects_over_all_methods_and_columns_of_the_table():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(100, 2))
    others = {name: evaluation(a + rng.normal(size=(100, 2)) - 0.2) for name in ("b", "c")}
    table = compare(evaluation(a), others, pairs=PAIRS)
    assert table["other"].to_list() == ["b", "b", "c", "c"]
    np.testing.assert_allclose(table["p_holm"], holm(table["p"].to_numpy()))
    assert table["p_holm"].min() == pytest.approx(4 * table["p"].min())


def test_the_primary_test_is_that_of_the_best_other_method_of_each_column_whatever_stands_beside_it():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 2))
    gains = {"weak": [0.09, 0.08], "best at recall": [0.05, 0.02], "best at ndcg": [0.01, 0.05]}
    others = {name: evaluation(a + rng.normal(size=(60, 2)) / 10 - gain) for name, gain in gains.items()}
    table = compare(evaluation(a), others, pairs=PAIRS)
    primary = table.filter(table["p_primary"].is_not_null())
    assert primary.select("other", "metric").rows() == [("best at recall", "recall@50"), ("best at ndcg", "ndcg@10")]
    np.testing.assert_allclose(primary["p_primary"], holm(primary["p"].to_numpy()))
    del others["weak"]
    fewer = compare(evaluation(a), others, pairs=PAIRS)
    assert fewer["p_primary"].to_list() == table["p_primary"].to_list()[2:]


def test_a_column_without_queries_is_null_and_not_significant():
    values = np.random.default_rng(0).normal(size=(20, 2))
    values[:, 1] = np.nan
    row = compare(evaluation(values), {"b": evaluation(values + 1)}, pairs=PAIRS).row(1, named=True)
    assert (row["difference"], row["p"], row["p_holm"], row["n_queries"]) == (None, None, None, 0)


def test_other_queries_cannot_be_compared():
    with pytest.raises(DataError, match="the 3 queries of 'b' are not the method's 4"):
        compare(evaluation(np.zeros((4, 2))), {"b": evaluation(np.zeros((3, 2)))}, pairs=PAIRS)


def test_nothing_to_compare_with_is_an_error():
    with pytest.raises(DataError, match="at least one other method"):
        compare(evaluation(np.zeros((4, 2))), {}, pairs=PAIRS)


def test_a_metric_that_was_not_evaluated_is_an_error_that_lists_those_that_were():
    a = evaluation(np.zeros((4, 2)))
    with pytest.raises(DataError, match=r"no values per query of \[\('all', 'mrr'\)\]; slices are \['all'\]"):
        compare(a, {"b": a}, pairs=[("all", "mrr")])
