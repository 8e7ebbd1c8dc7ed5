"""The leaderboard and the number to select by."""

import io

import polars as pl
import pytest
from rich.console import Console

from seasonrec.errors import DataError
from seasonrec.evaluation.tables import HEADLINES, SELECTION, changes, differences, leaderboard, markdown, selection_score


def rows(method, values, split="test"):
    """A metrics table of one method with a value for each of the first headline columns."""
    pairs = HEADLINES[: len(values)]
    return pl.DataFrame(
        {"method": method, "split": split, "slice": [s for s, _ in pairs], "metric": [m for _, m in pairs], "value": values},
        schema_overrides={"value": pl.Float64},
    )


def selection_rows(values, method="m"):
    return pl.DataFrame(
        {"method": method, "split": "validation", "slice": [s for s, _ in SELECTION], "metric": [m for _, m in SELECTION], "value": values},
        schema_overrides={"value": pl.Float64},
    )


def test_markdown_has_a_row_per_method_and_the_best_of_each_column_in_bold():
    lines = markdown(pl.concat([rows("b", [0.2, 0.5, 0.1]), rows("a", [0.1, 0.5, None])])).splitlines()
    assert lines[0].startswith("| method | all NDCG@10 | all R@50 | repeat NDCG@10 |")
    assert lines[2].startswith("| b | **0.2000** | **0.5000** | **0.1000** | – |")
    assert lines[3].startswith("| a | 0.1000 | **0.5000** | – |")
    assert len(lines) == 4


def test_the_last_row_says_of_how_many_queries():
    of_all, of_seeds = rows("a", [0.2, 0.5]).with_columns(n_queries=pl.Series([1200, 7])), {"n_seeds": 3, "low": 0.1, "high": 0.2}
    assert markdown(of_all).splitlines()[-1].startswith("| queries | 1,200 | 7 | 0 |")
    with_seeds = of_all.with_columns(**{name: pl.lit(value) for name, value in of_seeds.items()})
    assert markdown(with_seeds).splitlines()[-1].startswith("| queries | – | 1,200 | 7 | 0 |")


def test_the_terminal_table_shows_the_same_cells():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(leaderboard(pl.concat([rows("b", [0.2, 0.5]), rows("a", [0.1, 0.6])])))
    shown = console.export_text()
    for text in ("test weeks", "NDCG@10", "0.2000", "0.6000", "–"):
        assert text in shown


def test_only_the_split_asked_for_is_shown():
    table = pl.concat([rows("a", [0.1]), rows("a", [0.9], "validation")])
    assert "0.9000" not in markdown(table)
    assert "0.1000" not in markdown(table, "validation")


def test_an_unknown_split_is_an_error():
    with pytest.raises(DataError, match=r"no rows of split 'train'; the table has \['test'\]"):
        markdown(rows("a", [0.1]), "train")


def test_selection_is_the_geometric_mean_of_ratios():
    score = selection_score(selection_rows([0.3, 0.2, 0.4]), selection_rows([0.1, 0.2, 0.8], "reference"))
    assert score == pytest.approx((3 * 1 * 0.5) ** (1 / 3))


def test_the_reference_selects_itself_with_one():
    assert selection_score(selection_rows([0.3, 0.2, 0.4]), selection_rows([0.3, 0.2, 0.4])) == pytest.approx(1)


@pytest.mark.parametrize("reference", [[0.1, 0, 0.8], [0.1, None, 0.8]])
def test_a_part_that_the_reference_has_nothing_in_is_left_out_with_a_warning(reference):
    with pytest.warns(UserWarning, match=r"leaves out \[\('new_to_user', 'ndcg@10'\)\]"):
        score = selection_score(selection_rows([0.3, 0.2, 0.4]), selection_rows(reference))
    assert score == pytest.approx((3 * 0.5) ** (1 / 2))


def test_a_reference_without_any_value_is_an_error():
    with pytest.raises(DataError, match="no positive value"):
        selection_score(selection_rows([0.3, 0.2, 0.4]), selection_rows([0, 0, 0]))


def test_a_table_of_two_methods_is_an_error():
    both = pl.concat([selection_rows([0.3, 0.2, 0.4]), selection_rows([0.3, 0.2, 0.4], "other")])
    with pytest.raises(DataError, match="wanted one method and one split"):
        selection_score(both, selection_rows([0.3, 0.2, 0.4]))


def compared():
    """A method against two others in one column, of which the second is surely worse."""
    names = ("other", "slice", "metric", "difference", "p_holm", "detectable", "detectable_holm")
    rows = [("a", "all", "ndcg@10", 0.01, 0.6, 0.02, 0.03), ("b", "all", "ndcg@10", 0.1, 0.0001, 0.025, 0.035)]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_differences_end_with_the_smallest_that_every_test_can_show():
    lines = differences(compared(), "m").markdown().splitlines()
    assert lines[2:] == [
        "| a | +0.0100 (p 0.600) |",
        "| b | **+0.1000 (p < 0.001)** |",
        "| detectable | 0.0250 |",
        "| detectable after Holm | 0.0350 |",
    ]
    assert r"b & \textbf{+0.1000 (p $<$ 0.001)}" in differences(compared(), "m").latex()
    few = differences(compared().with_columns(p_holm=pl.lit(None, pl.Float64)), "m").markdown()
    assert few.splitlines()[2:4] == ["| a | +0.0100 (p –) |", "| b | +0.1000 (p –) |"]
    without = differences(compared().drop("detectable_holm"), "m").markdown()
    assert "after Holm" not in without


def test_changes_show_the_mean_and_the_difference_to_the_whole_model():
    names = ("variant", "value", "low", "high", "n_seeds", "difference", "difference_low", "difference_high", "p_holm")
    rows = [("whole", 0.3, 0.29, 0.31, 3, None, None, None, None), ("less", 0.2, None, None, 1, -0.1, -0.12, -0.08, 0.0001)]
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(slice=pl.lit("all"), metric=pl.lit("ndcg@10"))
    lines = changes(table, "whole").markdown().splitlines()
    assert lines[0].startswith("| variant | seeds | all NDCG@10 | all R@50 |")
    assert lines[2].startswith("| whole | 3 | 0.3000 ±0.0100 | – |")
    assert lines[3].startswith("| less | 1 | **0.2000 (-0.1000, -0.1200 to -0.0800, p < 0.001)** | – |")
    few = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("difference_low", "difference_high", "p_holm"))
    assert changes(few, "whole").markdown().splitlines()[3].startswith("| less | 1 | 0.2000 (-0.1000, p –) | – |")
    alone = changes(table.head(1).drop(names[5:]), "whole").markdown()
    assert "| whole | 3 | 0.3000 ±0.0100 | – |" in alone
