"""The pictures show the numbers of their tables."""

from datetime import date, timedelta
from io import BytesIO

import matplotlib
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from seasonrec.errors import DataError
from seasonrec.experiments import plots

VALUES = {"popular": 0.1, "joint": 0.3, "personal": 0.2}


def metrics(slices=("all", "in_season", "holiday=christmas", "holiday=black_friday", "month=12"), values=VALUES):
    """NDCG@10 is the method's value, R@50 twice as much; the interval is 0.02 wide."""
    return pl.DataFrame(
        [
            (method, "test", name, metric, k, value * factor, value * factor - 0.01, value * factor + 0.01, 100)
            for method, value in values.items()
            for name in slices
            for metric, k, factor in (("ndcg@10", 10, 1), ("recall@50", 50, 2))
        ],
        schema=["method", "split", "slice", "metric", "k", "value", "low", "high", "n_queries"],
        orient="row",
    )


def weeks():
    """Two validation and two test weeks; a method gains 0.01 a week."""
    return pl.DataFrame(
        [
            (
                method,
                "validation" if week < 2 else "test",
                week,
                date(2017, 11, 5) + timedelta(7 * week),
                "all",
                "ndcg@10",
                v + week / 100,
                50,
            )
            for method, v in VALUES.items()
            for week in range(4)
        ],
        schema=["method", "split", "week", "date", "slice", "metric", "value", "n_queries"],
        orient="row",
    )


def dots(ax):
    """(x, y, colour) of every dot of a panel."""
    clouds = [part for part in ax.collections if isinstance(part, PathCollection)]
    return [
        (float(x), float(y), to_hex(colour))
        for cloud in clouds
        for (x, y), colour in zip(cloud.get_offsets(), np.resize(cloud.get_facecolor(), (len(cloud.get_offsets()), 4)), strict=True)
    ]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_methods_are_ranked_by_their_ndcg_and_those_without_come_last():
    table = metrics(["all"])
    unknown = table.head(1).with_columns(method=pl.lit("unknown"), slice=pl.lit("cold_item"))
    assert plots.ranked(pl.concat([unknown, table])) == ["joint", "personal", "popular", "unknown"]


def test_the_joint_model_has_a_colour_of_its_own_and_no_two_named_peers_share_one():
    colours = plots.method_colours(["a", "joint", "b", "c", "d", "e", "f", "g"])
    assert colours["joint"] == plots.HIGHLIGHT
    named = [colours[name] for name in ("joint", "a", "b", "c", "d", "e")]
    assert len(set(named)) == 6
    assert colours["f"] == colours["g"] == plots.OTHERS


def test_a_head_has_the_same_colour_in_losses_and_scores():
    styles = plots.head_styles(["train/loss/seasonal", "weather", "cf"])
    assert styles["train/loss/seasonal"] == plots.HEADS["seasonal"]
    assert styles["cf"][0] == "taste"
    assert styles["weather"] == ("weather", plots.MORE_HEADS[0])


def test_the_leaderboard_has_a_panel_per_headline_with_dots_and_whiskers():
    figure = plots.leaderboard(metrics(["all", "in_season"]))
    assert [ax.get_title("left") for ax in figure.axes] == ["all\nNDCG@10", "all\nR@50", "in season\nR@50", "in season\nNDCG@10"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["joint", "personal", "popular"]
    found = sorted(dots(figure.axes[0]), key=lambda dot: dot[1])
    assert [(round(x, 6), y) for x, y, _ in found] == [(0.3, 0), (0.2, 1), (0.1, 2)]
    assert [colour == plots.HIGHLIGHT for _, _, colour in found] == [True, False, False]
    (whiskers,) = [part for part in figure.axes[0].collections if not isinstance(part, PathCollection)]
    ends = {round(float(path.vertices[0, 1])): path.vertices[:, 0] for path in whiskers.get_paths()}
    np.testing.assert_allclose(ends[0], [0.29, 0.31])
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "the best method is on top"


def test_a_headline_without_values_has_no_panel_and_a_value_without_interval_no_whisker():
    table = metrics(["all", "in_season"]).with_columns(
        value=pl.when(slice="in_season").then(None).otherwise("value"), low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64)
    )
    figure = plots.leaderboard(table)
    assert len(figure.axes) == 2
    figure.savefig(BytesIO())
    with pytest.raises(DataError, match=r"none of .* has a value"):
        plots.leaderboard(table.filter(slice="in_season"))


def test_a_week_line_does_not_join_the_two_splits():
    figure = plots.per_week(weeks(), plots.ranked(weeks()))
    (ax,) = figure.axes
    lines = [line for line in ax.lines if to_hex(line.get_color()) == plots.HIGHLIGHT]
    assert [len(line.get_xdata()) for line in lines] == [2, 2]
    np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in lines]), [0.30, 0.31, 0.32, 0.33])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5 Nov\n2017", "12 Nov\n2017", "19 Nov\n2017", "26 Nov\n2017"]
    assert legend(figure) == ["joint", "personal", "popular"]


def test_dates_may_be_text():
    as_text = weeks().with_columns(pl.col("date").cast(pl.String))
    assert len(plots.per_week(as_text, ["joint"]).axes[0].lines) == 2


def test_every_holiday_has_a_row_with_a_dot_per_method():
    figure = plots.per_group(metrics(), "holiday", ["joint", "personal", "popular"])
    ndcg, recall = figure.axes
    assert [label.get_text() for label in ndcg.get_yticklabels()] == ["Christmas\n100 queries", "Black Friday\n100 queries"]
    assert sorted(round(x, 6) for x, y, _ in dots(ndcg) if round(y) == 1) == [0.1, 0.2, 0.3]
    assert sorted(round(x, 6) for x, y, _ in dots(recall) if round(y) == 0) == [0.2, 0.4, 0.6]
    assert len({y for _, y, _ in dots(ndcg)}) == 6, "dots of different methods do not hide each other"


def test_months_are_named():
    figure = plots.per_group(metrics(), "month", ["joint"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Dec\n100 queries"]


def test_metrics_without_a_holiday_are_an_error_that_says_what_is_there():
    with pytest.raises(DataError, match=r"no slice begins with 'holiday='; the metrics have \['all'\]"):
        plots.per_group(metrics(["all"]), "holiday", ["joint"])


def test_methods_beyond_the_colours_are_one_legend_entry():
    values = {"joint": 0.9} | {f"m{n}": 0.8 - n / 100 for n in range(8)}
    table = metrics(["all", "holiday=christmas"], values)
    figure = plots.per_group(table, "holiday", plots.ranked(table))
    assert legend(figure) == ["joint", "m0", "m1", "m2", "m3", "m4", "others"]


def test_losses_have_a_panel_per_fit_with_a_raw_and_a_smooth_line_per_term():
    rng = np.random.default_rng(0)
    rows = [
        (fit, 0, step, name, level + rng.normal())
        for fit in ("selection", "final")
        for name, level in (("seasonal", 5), ("total", 9))
        for step in range(300)
    ]
    figure = plots.losses(pl.DataFrame(rows, schema=["fit", "epoch", "step", "name", "value"], orient="row"))
    assert [ax.get_title("left") for ax in figure.axes] == ["selection fit", "final fit"]
    raw, smooth = (line.get_ydata() for line in figure.axes[1].lines[:2])
    np.testing.assert_array_equal(raw, [value for fit, _, _, name, value in rows if (fit, name) == ("final", "seasonal")])
    assert np.std(smooth[50:]) < 0.5 * np.std(raw[50:])
    assert np.mean(smooth[50:]) == pytest.approx(5, abs=0.3)
    assert legend(figure) == ["season", "total"]


def test_weeks_with_twice_the_even_share_stand_out():
    share = np.full(52, 0.9 / 50)
    share[[47, 48]] = 0.05
    table = pl.DataFrame({"item_id": ["1"] * 52, "text": ["$5 card & $10 card"] * 52, "week_of_year": range(52), "share": share})
    (ax,) = plots.seasonality(table).axes
    assert [place for place, bar in enumerate(ax.patches) if to_hex(bar.get_facecolor()) == plots.HIGHLIGHT] == [47, 48]
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], share)
    assert ax.get_title("left") == "$5 card & $10 card"
    assert not ax.title.get_parse_math()
    assert [label.get_text() for label in ax.get_xticklabels()] == list("JFMAMJJASOND")


def test_of_half_a_year_the_other_half_is_shaded_and_an_even_week_is_a_26th():
    share = np.full(26, 0.9 / 25)
    share[3] = 0.1  # 2.6 times an even week; the others .94 times, which of 52 weeks were nearly twice
    table = pl.DataFrame({"item_id": ["1"] * 26, "text": ["mug"] * 26, "week_of_year": range(26), "share": share})
    (ax,) = plots.seasonality(table).axes
    colours = [to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert [place for place, colour in enumerate(colours) if colour == plots.HIGHLIGHT] == [3]
    shaded = [patch.get_x() for patch, colour in zip(ax.patches, colours, strict=True) if colour == plots.STYLE["grid.color"]]
    assert shaded == list(range(26, 52))
    assert ax.lines[0].get_ydata()[0] == 1 / 26


def test_tables_without_rows_are_errors():
    with pytest.raises(DataError, match="losses: no rows"):
        plots.losses(pl.DataFrame(schema=["fit", "epoch", "step", "name", "value"]))
    with pytest.raises(DataError, match="seasonality: no rows"):
        plots.seasonality(pl.DataFrame(schema=["item_id", "text", "week_of_year", "share"]))


def test_drawing_leaves_the_global_style_alone():
    before = dict(matplotlib.rcParams)
    plots.leaderboard(metrics()).savefig(BytesIO())
    assert dict(matplotlib.rcParams) == before


def variants():
    """Two variants of a model beside the whole: one lost for sure, of the other nobody knows."""
    rows = [("whole", 0.3, None, None, None, None), ("less", 0.2, -0.1, -0.12, -0.08, 0.001), ("other", 0.31, 0.01, -0.02, 0.04, 0.6)]
    names = ["variant", "value", "difference", "difference_low", "difference_high", "p_holm"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(slice=pl.lit("all"), metric=pl.lit("ndcg@10"))


def test_an_ablation_shows_each_variants_difference_and_what_is_sure_stands_out():
    (ax,) = plots.ablation(variants()).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["less", "other"]
    (lost, unknown) = dots(ax)
    assert lost[:2] == pytest.approx((-0.1, 0))
    assert unknown[:2] == pytest.approx((0.01, 1))
    assert (lost[2], unknown[2]) == (plots.HIGHLIGHT, plots.OTHERS)


def test_an_ablation_without_variants_is_an_error():
    with pytest.raises(DataError, match="ablation: none of"):
        plots.ablation(variants().head(1))
