"""One page that shows a run: made from the files of the run's folder alone, so it can be made again at any time."""

import html
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from seasonrec.errors import DataError
from seasonrec.evaluation.ratings import rating_grid
from seasonrec.evaluation.significance import standard_errors
from seasonrec.evaluation.tables import ABSENT, HEADLINES, TITLES, Grid, markdown, p_text, smallest
from seasonrec.experiments import page, plots
from seasonrec.experiments.page import Html, Picture, write_page
from seasonrec.experiments.record import FAILED, JOINT, RECORD, TABLES, TEXT_PROFILE, TUNED, read_record, read_table
from seasonrec.seasons.phase import HALF_WINDOW
from seasonrec.seasons.profile import STRENGTH

ALPHA: Final = 0.05
BY_PART: Final = "By cut-off and quarter"
BAR_WIDTH: Final = 150  # pixels of the longest score

Pair = tuple[str, str]


def write_report(folder: str | Path) -> Path:
    """The path of report.html, made in a run's folder from the files there; its pictures also go to plots/*.png.

    A table that the run did not write is named in its section.

    Raises:
        DataError: the folder has no metrics.csv, or a file does not have the form that a run writes.
    """
    folder = Path(folder)
    tables = {name: read_table(folder, name) for name in TABLES}
    metrics = tables["metrics"]
    if metrics is None or metrics.is_empty():
        raise DataError(
            f"{folder}: no metrics.csv with rows there; give the folder of a run that was evaluated, outputs/<experiment>/<time>"
        )
    run = read_record(folder) if (folder / RECORD).exists() else {}
    return _of_run(folder, run, metrics, tables)


def write_comparison(
    folder: Path,
    summary: pl.DataFrame,
    split: str,
    tests: pl.DataFrame | None,
    reference: str,
    ours: Sequence[str],
    notes: Sequence[str],
    runs: pl.DataFrame,
    parts: pl.DataFrame | None = None,
) -> Path:
    """The path of report.html about several runs; its picture also goes to plots/leaderboard.png.

    Args:
        summary: rows of `over_seeds` with column method.
        split: to show.
        tests: from `compare`, of the method `reference`; None where there were none.
        ours: the methods to highlight.
        notes: what a reader has to know of the numbers.
        runs: which runs are behind `ours`.
        parts: as `summary`, column split naming cut-offs and quarters; None where there are none.
    """
    of_split = summary.filter(split=split)
    methods, picture = plots.ranked(of_split), partial(page.picture, folder)
    caption = f"Means and 95% intervals over seeds on the {split} weeks, best first; no metric leaves 0 to 1."
    drawn = of_split.with_columns(pl.col("low", "high").clip(0, 1))
    board = _leaderboard(of_split, methods, ours) + picture("leaderboard", partial(plots.leaderboard, drawn, ours), caption)
    sections = {
        f"{split.title()} weeks": Html(board + page.list_of(notes)),
        "Is the difference real?": page.missing("There were no tests.") if tests is None else _significance(tests, methods, reference),
        "The runs": page.frame(runs),
    }
    if parts is not None:
        sections[BY_PART] = _by_part(parts, methods, ours)
    return write_page(folder, f"{len(runs)} runs", sections)


def write_ablation(folder: Path, grid: Grid, table: pl.DataFrame, notes: Sequence[str], runs: pl.DataFrame) -> Path:
    """The path of report.html about variants of a model; its picture also goes to plots/ablation.png.

    Args:
        grid, table: from `changes`, and what it was made of.
        notes: what a reader has to know of the numbers.
        runs: which runs are behind each variant.
    """
    rows = [[page.two_lines(*(part.rstrip(")") for part in re.split(r" (?=±)| \(|, ", cell.text))) for cell in row] for row in grid.rows]
    caption = "What each variant differs from the whole model by, and 95% intervals over users; left of the line it lost."
    drawn = page.picture(folder, "ablation", partial(plots.ablation, table), caption) if "difference" in table.columns else Html("")
    sections = {
        "What is each part worth?": Html(drawn + page.table(grid.heads, rows) + page.list_of(notes)),
        "The runs": page.frame(runs),
    }
    return write_page(folder, f"ablation / {folder.name}", sections)


def write_ratings(folder: Path) -> Path:
    """The path of report.html about a run that predicted ratings, made from the files of its folder.

    Raises:
        DataError: a file does not have the form that a run writes.
    """
    tables = {name: read_table(folder, name) for name in TABLES}
    run, needs = read_record(folder), partial(_needs, tables)
    sections = {
        "Ratings": needs("metrics", lambda metrics: Html("".join(_errors(metrics, split) for split in ("test", "validation")))),
        "Epoch by epoch": needs("ratings", page.frame),
        "Loss terms": needs("losses", partial(_losses, picture=partial(page.picture, folder))),
        "The text encoder": _knowledge((run.get("facts") or {}).get("encoder")),
        "The run": _run(run),
    }
    return write_page(folder, _title(folder), sections, _subtitle(run))


def _errors(metrics: pl.DataFrame, split: str) -> Html:
    grid = rating_grid(metrics, split)
    rows = [[Html(f"<b>{html.escape(cell.text)}</b>") if cell.strong else cell.text for cell in row] for row in grid.rows]
    return Html(f"<h3>{html.escape(grid.title)}</h3>" + page.table(grid.heads, rows, ours=[JOINT]))


def _of_run(folder: Path, run: Mapping[str, Any], metrics: pl.DataFrame, tables: Mapping[str, pl.DataFrame | None]) -> Path:
    split = _split(metrics)
    of_split = metrics.filter(split=split)
    methods, picture, needs = plots.ranked(of_split), partial(page.picture, folder), partial(_needs, tables)
    sections = {
        "Leaderboard": _results(metrics, split, methods, picture),
        "Is the difference real?": needs("significance", partial(_significance, methods=methods)),
        "Week by week": needs("weeks", lambda weeks: picture("weeks", partial(plots.per_week, weeks, methods), WEEKS_NOTE)),
        "Holidays": picture("holidays", partial(plots.per_group, of_split, "holiday", methods), GROUP_NOTE),
        "Months": picture("months", partial(plots.per_group, of_split, "month", methods), GROUP_NOTE),
        "Three users, two seasons": needs("examples", _examples),
        "Items through the year": needs("seasonality", lambda year: picture("seasonality", partial(plots.seasonality, year), YEAR_NOTE)),
        "Loss terms": needs("losses", partial(_losses, picture=picture)),
        "The text encoder": _encoder((run.get("facts") or {}).get("encoder"), of_split),
        "The run": _run(run) if run else page.missing(f"The folder has no {RECORD}."),
    }
    if (rolling := tables["rolling"]) is not None:
        sections[BY_PART] = _by_part(rolling, methods)
    return write_page(folder, _title(folder), sections, _subtitle(run) + _headline(of_split, split, methods, tables["significance"]))


def _results(metrics: pl.DataFrame, split: str, methods: Sequence[str], picture: Picture) -> Html:
    of_split = metrics.filter(split=split)
    parts = [
        _leaderboard(of_split, methods),
        picture("leaderboard", partial(plots.leaderboard, of_split), f"Values and 95% intervals on the {split} weeks, best first."),
        page.folded("Beyond accuracy", _beyond_accuracy(of_split, methods)),
        *(
            page.folded(f"{other} weeks", _leaderboard(part, methods))
            for (other,), part in metrics.group_by("split", maintain_order=True)
            if other != split
        ),
        page.folded("As Markdown", Html(f"<pre>{html.escape(markdown(metrics, split))}</pre>")),
    ]
    return Html("".join(parts))


def _split(metrics: pl.DataFrame) -> str:
    splits = metrics["split"].unique(maintain_order=True).to_list()
    return "test" if "test" in splits else splits[0]


# ---- headline ----


def _headline(metrics: pl.DataFrame, split: str, methods: Sequence[str], significance: pl.DataFrame | None) -> Html:
    """One sentence and one tile per headline metric: the best method, and how the joint model stands to its best peer."""
    columns = {pair: values for pair in HEADLINES if (values := _values(metrics, pair))}
    best = {pair: _best(values) for pair, values in columns.items()}
    parts = [f"{_name(pair)}: {best[pair]} {columns[pair][best[pair]]:.4f}" for pair in columns]
    lead = _lead(columns, split, significance) if JOINT in methods else ""
    tiles = "".join(_tile(pair, values, best[pair], significance) for pair, values in columns.items())
    note = f" {PRIMARY_NOTE}" if lead and significance is not None and _primary(significance) == "p_primary" else ""
    sentence = f"<b>{html.escape(lead)}</b>Best of each: {html.escape('; '.join(parts))}.{note}"
    return Html(f"<p class='lead'>{sentence}</p><div class='tiles'>{tiles}</div>")


def _lead(columns: Mapping[Pair, Mapping[str, float]], split: str, significance: pl.DataFrame | None) -> str:
    """In how many columns the joint model is ahead of all others, or level with the best of them, and how often that is no luck."""
    others = {pair: _peers(values) for pair, values in columns.items()}
    margins = {pair: values[JOINT] - max(others[pair].values(), default=-1.0) for pair, values in columns.items() if JOINT in values}
    ahead = [pair for pair, margin in margins.items() if margin > 0]
    level = sum(margin == 0 for margin in margins.values())
    said = f"{JOINT} is best in {len(ahead)} of {len(columns)} columns of the {split} weeks"
    if level:
        said += f", level with another in {level}"
    if significance is not None:
        sure = sum((p := _p_against(significance, _best(others[pair]), pair)) is not None and p < ALPHA for pair in ahead if others[pair])
        said += f"; {sure} of these with p < {ALPHA:g} after {FAMILIES[_primary(significance)]}"
    return f"{said}. "


def _tile(pair: Pair, values: Mapping[str, float], best: str, significance: pl.DataFrame | None) -> str:
    peers, note = _peers(values), ""
    if JOINT in values and peers:
        peer = _best(peers)
        whom = f"next {peer} {peers[peer]:.4f}" if best == JOINT else f"{JOINT} {values[JOINT]:.4f}"
        p = "" if significance is None else f", {p_text(_p_against(significance, peer, pair))} ({FAMILIES[_primary(significance)]})"
        note = f"{whom}, difference {values[JOINT] - peers[peer]:+z.4f}{p}"
    kind = "tile ours" if best == JOINT else "tile"
    title, method, note = (html.escape(part) for part in (_name(pair), best, note))
    return f"<div class='{kind}'><h3>{title}</h3><strong>{values[best]:.4f}</strong> {method}<small>{note}</small></div>"


def _peers(values: Mapping[str, float]) -> dict[str, float]:
    """The values of all other methods."""
    return {method: value for method, value in values.items() if method != JOINT}


def _p_against(significance: pl.DataFrame, peer: str, pair: Pair) -> float | None:
    """The corrected p of the joint model against the best other method of a column; None where it was not tested."""
    p = significance.filter(other=peer, slice=pair[0], metric=pair[1])[_primary(significance)].drop_nulls()
    return p[0] if len(p) else None


def _primary(significance: pl.DataFrame) -> str:
    """The column of the headline's p, one of `FAMILIES`."""
    return "p_primary" if "p_primary" in significance.columns else "p_holm"  # runs from before there was one


def _best(values: Mapping[str, float]) -> str:
    return max(values, key=values.__getitem__)


def _values(metrics: pl.DataFrame, pair: Pair) -> dict[str, float]:
    rows = metrics.filter(pl.col("value").is_not_null(), slice=pair[0], metric=pair[1])
    return dict(rows.select("method", "value").iter_rows())


# ---- tables of numbers ----


def _leaderboard(metrics: pl.DataFrame, methods: Sequence[str], ours: Collection[str] = (JOINT,)) -> Html:
    best = {pair: max(_values(metrics, pair).values(), default=None) for pair in HEADLINES}
    cells = {(row["method"], row["slice"], row["metric"]): row for row in metrics.iter_rows(named=True)}
    names = {method: page.two_lines(method, f"seeds: {n}") for method, n in _seeds(metrics).items()}
    rows = [[names.get(method, method), *(_interval(cells.get((method, *pair)), best[pair]) for pair in HEADLINES)] for method in methods]
    queries = {row["slice"]: row["n_queries"] for row in metrics.iter_rows(named=True)}
    heads = [page.two_lines(_name(pair), f"{queries.get(pair[0], 0):,} queries") for pair in HEADLINES]
    return page.table(["method", *heads], rows, ours=[names.get(method, method) for method in ours])


def _seeds(metrics: pl.DataFrame) -> dict[str, int]:
    """Over how many seeds each method's values are means; of the values of one run, nothing."""
    return dict(metrics.group_by("method").agg(pl.col("n_seeds").max()).iter_rows()) if "n_seeds" in metrics.columns else {}


def _interval(row: Mapping[str, Any] | None, best: float | None) -> str:
    if row is None or row["value"] is None:
        return ABSENT
    value = Html(f"<b>{row['value']:.4f}</b>") if row["value"] == best else f"{row['value']:.4f}"
    return value if row["low"] is None else page.two_lines(value, f"{row['low']:.4f}–{row['high']:.4f}")


def _by_part(rolling: pl.DataFrame, methods: Sequence[str], ours: Collection[str] = (JOINT,)) -> Html:
    parts = rolling.group_by("split", maintain_order=True)
    return Html("".join(page.folded(str(part), _leaderboard(of_part, methods, ours)) for (part,), of_part in parts))


def _beyond_accuracy(metrics: pl.DataFrame, methods: Sequence[str]) -> Html:
    everything = metrics.filter(slice="all")
    names = everything["metric"].unique(maintain_order=True).to_list()
    values = {name: _values(everything, ("all", name)) for name in names}
    return page.table(
        ["method", *names], [[method, *(page.number(values[name].get(method)) for name in names)] for method in methods], ours=[JOINT]
    )


def _significance(table: pl.DataFrame, methods: Sequence[str], reference: str = JOINT) -> Html:
    """Differences of a method to each other one, with intervals and corrected p, and what could be detected."""
    pairs = list(table.select("slice", "metric").unique(maintain_order=True).iter_rows())
    cells = {(row["other"], row["slice"], row["metric"]): _difference(row) for row in table.iter_rows(named=True)}
    present = table["other"].unique(maintain_order=True).to_list()
    others = [other for other in dict.fromkeys([*methods, *present]) if other in present]
    rows = [[other, *(cells.get((other, *pair), ABSENT) for pair in pairs)] for other in others]
    rows += [[name, *cells] for name, cells in smallest(table, pairs).items()]
    return Html(f"<p>{SIGNIFICANCE_NOTE} {_of_tests(table)}</p>" + page.table([f"{reference} minus", *map(_name, pairs)], rows))


def _of_tests(table: pl.DataFrame) -> str:
    """By how much Holm's correction raises the smallest difference that can be shown."""
    n = table["p_holm"].count()
    times = standard_errors(n) / standard_errors()
    return f"After Holm's correction over the {n} tests here, the smallest p needs {times:.2f} times as much."


def _difference(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return ABSENT
    sure = row["p_holm"] is not None and row["p_holm"] < ALPHA
    kind = ("up" if row["difference"] > 0 else "down") if sure else "open"
    value = Html(f"<span class='{kind}'>{row['difference']:+z.4f}</span>")
    return page.two_lines(value, f"{page.number(row['low'])} to {page.number(row['high'])}", p_text(row["p_holm"]))


def _losses(table: pl.DataFrame, picture: Picture) -> Html:
    last = table.filter(pl.col("epoch") == pl.col("epoch").max().over("fit")).group_by("fit", "name").agg(pl.col("value").mean())
    values = {(fit, name): value for fit, name, value in last.iter_rows()}
    fits, names = (table[column].unique(maintain_order=True).to_list() for column in ("fit", "name"))
    styles = plots.head_styles(names)
    rows = [[f"{fit} fit", *(page.number(values.get((fit, name))) for name in names)] for fit in fits]
    drawn = picture("losses", partial(plots.losses, table), "Every step's value and a smooth line through it.")
    return Html(drawn + page.table(["mean of the last epoch", *(styles[name][0] for name in names)], rows))


# ---- the text encoder ----


def _encoder(told: Mapping[str, Any] | None, metrics: pl.DataFrame) -> Html:
    """What of it learnt, how well it knew the shop's words, and the text profile before and after, slice by slice."""
    known = _knowledge(told)
    if TUNED not in metrics["method"]:
        return Html(known + page.missing("It did not learn, so there is no before and after."))
    return Html(known + f"<p>{ENCODER_NOTE}</p>" + _before_and_after(metrics))


def _knowledge(told: Mapping[str, Any] | None) -> Html:
    """What of it learnt, and how well it knew the shop's words."""
    if not told:
        return page.missing("The record says nothing of it.")
    language = told["language"]
    rows = [
        ["parameters that learn", f"{told['trainable_share']:.2%}"],
        [f"tokens a product text, of {language['n_texts']:,}", page.number(language["tokens_per_text"], ".1f")],
        ["product texts longer than it reads", page.number(language["cut_texts"], ".2%")],
        ["unknown tokens", page.number(language["unknown_tokens"], ".2%")],
        ["words in several pieces", page.number(language["split_words"], ".1%")],
        ["pieces a word", page.number(language["pieces_per_word"], ".3f")],
        *([[f"loss of the {language['loss_of']} before training, nats", f"{language['loss']:.3f}"]] if language["loss_of"] else []),
    ]
    return page.table(["", "encoder"], rows)


def _before_and_after(metrics: pl.DataFrame) -> Html:
    values = metrics.filter(pl.col("metric").is_in(TITLES)).pivot("method", index=["slice", "metric"], values="value")
    cells = {(row["slice"], row["metric"]): (row[TEXT_PROFILE], row[TUNED]) for row in values.iter_rows(named=True)}
    rows = [
        [name, *(cell for metric in TITLES for cell in _change(*cells.get((name, metric), (None, None))))]
        for name in values["slice"].unique(maintain_order=True)
    ]
    return page.table(["slice", *(f"{title} {what}" for title in TITLES.values() for what in ("before", "after", "difference"))], rows)


def _change(before: float | None, after: float | None) -> list[str]:
    difference = None if before is None or after is None else after - before
    return [page.number(before), page.number(after), page.number(difference, "+z.4f")]


# ---- users ----


def _examples(table: pl.DataFrame) -> Html:
    """Each user's lists side by side, every score split into its heads' parts."""
    heads = [column for column in table.columns if column not in TABLES["examples"]]
    styles = plots.head_styles(heads)
    legend = "".join(f"<span><i style='background:{colour}'></i>{html.escape(title)}</span>" for title, colour in styles.values())
    apart = np.abs(table["score"].to_numpy() - table.select(heads).to_numpy().sum(1)).max() if heads else 0.0
    warning = page.missing(f"The parts do not add up to the score: they differ by up to {apart:.4g}.") if apart > 1e-3 else ""
    users = [_user(part, styles) for _, part in table.group_by("user_id", maintain_order=True)]
    return Html(f"<p>{EXAMPLES_NOTE}</p><p class='legend'>{legend}</p>{warning}{''.join(users)}")


def _user(table: pl.DataFrame, styles: Mapping[str, tuple[str, str]]) -> str:
    parts = table.select(list(styles)).fill_null(0).to_numpy()
    below, above = (-parts.clip(max=0).sum(1)).max(initial=0), parts.clip(min=0).sum(1).max(initial=0)
    unit = BAR_WIDTH / (below + above or 1)
    bar = partial(_bar, styles=styles, zero=below * unit, unit=unit)
    lists = [
        f"<div><h4>{html.escape(f'{season}, {date}')}</h4>{_list(part, bar)}</div>"
        for (season, date), part in table.group_by("season", "date", maintain_order=True)
    ]
    return f"<article><h3>User {html.escape(table['user_id'][0])}</h3><div class='pair'>{''.join(lists)}</div></article>"


def _list(table: pl.DataFrame, bar: Callable[[Mapping[str, Any]], Html]) -> Html:
    rows = [
        [str(row["rank"]), page.two_lines(row["text"] or row["item_id"], row["item_id"]), f"{row['score']:.3f}", bar(row)]
        for row in table.sort("rank").iter_rows(named=True)
    ]
    return page.table(["", "product", "score", "of which"], rows, kind="list")


def _bar(row: Mapping[str, Any], styles: Mapping[str, tuple[str, str]], zero: float, unit: float) -> Html:
    """The parts of a score end to end: what adds to it right of zero, what takes from it left."""
    pieces, left, right = [], zero, zero
    for head, (_, colour) in styles.items():
        width = abs(row[head] or 0) * unit
        if (row[head] or 0) < 0:
            left = start = left - width
        else:
            start, right = right, right + width
        pieces.append(f"<rect x='{start:.1f}' y='2' width='{width:.1f}' height='10' fill='{colour}'/>")
    parts = ", ".join(f"{title} {page.number(row[head], '+z.2f')}" for head, (title, _) in styles.items())
    drawn = f"<title>{html.escape(parts)}</title>{''.join(pieces)}<line x1='{zero:.1f}' x2='{zero:.1f}' y1='0' y2='14'/>"
    return page.two_lines(Html(f"<svg width='{BAR_WIDTH + 2}' height='14' role='img'>{drawn}</svg>"), parts)


# ---- the run ----


def _title(folder: Path) -> str:
    return f"{folder.resolve().parent.name} / {folder.resolve().name}"


def _subtitle(run: Mapping[str, Any]) -> Html:
    data, code = run.get("data") or {}, run.get("code") or {}
    commit = f"commit {code['commit'][:10]}{' (changed since)' if code.get('dirty') else ''}" if code.get("commit") else None
    seed = None if run.get("seed") is None else f"seed {run['seed']}"
    failed = FAILED if run.get("status") == FAILED else None  # while a run writes its report, it is still running
    facts = [data.get("name"), failed, run.get("started"), seed, commit]
    told = " · ".join(html.escape(str(fact)) for fact in facts if fact)
    return Html(f"<p class='quiet'>{told}</p>")


def _run(run: Mapping[str, Any]) -> Html:
    data = dict(run.get("data") or {})
    cleaning = data.pop("cleaning", [])
    error = run.get("error") or {}
    known = ("started", "resumed", "finished", "command", "seed", "seasonrec", "code", "machine")
    blocks = [
        f"<pre class='error'>{html.escape(str(error.get('traceback', error)))}</pre>" if error else "",
        "<h3>Stages</h3>",
        _stages(run.get("stages") or []),
        "<h3>Data</h3>",
        page.block(data),
        page.table(["cleaning step", "rows dropped"], [[step["step"], f"{step['dropped']:,}"] for step in cleaning]) if cleaning else "",
        "<h3>Facts</h3>",
        page.block({name: run[name] for name in known if run.get(name) not in (None, [])} | (run.get("facts") or {})),
        page.folded("Configuration", page.block(run.get("config") or {})),
        page.folded("Versions of packages", page.block(run.get("versions") or {})),
    ]
    return Html("".join(blocks))


def _stages(stages: Sequence[Mapping[str, Any]]) -> Html:
    gpu = any("gpu_peak_memory_mb" in stage for stage in stages)
    heads = ["stage", "seconds", "peak memory, MiB", *(["GPU, MiB"] if gpu else []), "measured as"]
    rows = [
        [
            f"{stage['name']}{' (failed)' if stage.get('failed') else ''}",
            f"{stage['seconds']:,.1f}",
            page.number(stage.get("peak_memory_mb"), ",.0f"),
            *([page.number(stage.get("gpu_peak_memory_mb"), ",.0f")] if gpu else []),
            str(stage.get("memory", ABSENT)),
        ]
        for stage in stages
    ]
    return page.table(heads, rows)


# ---- pieces ----


def _needs(tables: Mapping[str, pl.DataFrame | None], name: str, section: Callable[[pl.DataFrame], Html]) -> Html:
    """The section of an optional table, or a line that says that there is none."""
    table = tables[name]
    return page.missing(f"This run wrote no {name}.csv.") if table is None or table.is_empty() else section(table)


def _name(pair: Pair) -> str:
    return f"{pair[0].replace('_', ' ')} {TITLES.get(pair[1], pair[1])}"


FAMILIES: Final = {"p_primary": "Holm over the columns", "p_holm": "Holm over all tests"}  # what each p is corrected over
PRIMARY_NOTE: Final = (
    "Each p up here is of a column's primary test, the joint model against the best other method, corrected over the columns; the table "
    "of differences corrects over the tests against all other methods too, so that its p are no smaller."
)
SIGNIFICANCE_NOTE: Final = (
    "Paired bootstrap over users: mean difference, 95% interval, p after Holm over all tests of this table. "
    f"Coloured where p &lt; {ALPHA}. The last rows are the smallest true difference that these queries would show 4 times out of 5."
)
ENCODER_NOTE: Final = (
    "The text profile, which ranks by likeness in words alone, with the encoder before and after fine-tuning. "
    "Where it lost, fine-tuning made the encoder itself worse at that."
)
EXAMPLES_NOTE: Final = "What the model would show on two days of the year. A score is the sum of what heads and reranker give to it."
WEEKS_NOTE: Final = "Every method in every week."
GROUP_NOTE: Final = "Every method as a dot; the joint model with its 95% interval."
YEAR_NOTE: Final = (
    "Share of the year's sales in each week, before the test weeks. It is made of sales a day, so that weeks which the data cover twice "
    f"weigh no more than others; those never covered are grey. Averaged over {2 * HALF_WINDOW + 1} weeks; {STRENGTH:g} purchases that fall "
    "as those of all items are added to each item's own. Dotted: an even year; orange: at least twice as much."
)
