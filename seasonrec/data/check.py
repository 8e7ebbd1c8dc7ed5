"""What the framework sees in a data set, told before anyone trains."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seasonrec.data.adapters.tables import REASONS
from seasonrec.data.dataset import LAST_YEAR_WEEKS, Dataset
from seasonrec.schema import DESCRIPTION, END, ITEM, KIND, PRODUCT, RATING, START, TIME, USER, WEEK
from seasonrec.seasons.context import MONTHS, season_of
from seasonrec.seasons.phase import local_time

QUANTILES: Final = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}
SOUTHERN: Final = ("AR", "AU", "BO", "BR", "BW", "CL", "LS", "MG", "MU", "MZ", "NA", "NZ", "PE", "PY", "RE", "SZ", "UY", "ZA", "ZM", "ZW")
BLANKS: Final = ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "-")
SEVERAL: Final = 1.5  # products an item: then their own words may tell more than the item's
SHORT_MONTHS: Final = tuple(month[:3] for month in MONTHS)


def facts(dataset: Dataset) -> dict[str, Any]:
    """All that is worth knowing about a data set before training, as plain JSON values.

    Texts are those known at the first test week. Queries, user-item pairs and cold pairs (truth that nobody had bought) are
    counted for the weeks of the split, products where their purchases say something.
    """
    times = dataset.events[TIME]
    texts = dataset.item_texts(dataset.start_of(dataset.split.test[0]))
    found: dict[str, Any] = {
        "name": dataset.name,
        "digest": dataset.digest,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "events": len(dataset.events),
        "columns": {name: _columns(getattr(dataset, name)) for name in ("events", "items", "users")},
        "promotions": _promoted(dataset),
        "first": _moment(times.min()),
        "last": _moment(times.max()),
        "weeks": _weeks(dataset),
        "months": _months(dataset),
        "events_per_user": _quantiles(dataset.events[USER]),
        "events_per_item": _quantiles(dataset.events[ITEM]),
        "ids_like_blanks": [name for table, key in ((dataset.users, USER), (dataset.items, ITEM)) for name in _like_blanks(table[key])],
        "items_with_text": sum(text != "" for text in texts) / max(dataset.n_items, 1),
        "texts": _examples(dataset, texts),
        "products": dataset.purchases_in_words.filter(pl.col(DESCRIPTION) != "")[PRODUCT].n_unique(),
        "rejected": dict(dataset.cleaning),
        "country": dataset.shop.country,
        "hemisphere": dataset.shop.hemisphere,
        "split": {part: _part(dataset, weeks) for part, weeks in dataset.split.weeks.items()},
    }
    found["seasons"] = list(dict.fromkeys(season_of(SHORT_MONTHS.index(month), dataset.shop.hemisphere) for month in found["months"]))
    return found | {"warnings": list(_warnings(found))}


def report(dataset: Dataset) -> RenderableType:
    """The facts as tables for a terminal."""
    found = facts(dataset)
    title = Text(f"{found['name']}: {found['events']:,} events of {found['users']:,} users and {found['items']:,} items", style="bold")
    warned = [Text(f"! {warning}", style="yellow") for warning in found["warnings"]]
    return Group(title, _overview(found), _column_table(found), _rejects(found), _splits(found), *_texts(found), *warned)


def _like_blanks(ids: pl.Series) -> list[str]:
    """Ids that look like what a program writes where there is none."""
    return ids.filter(ids.str.to_lowercase().is_in(BLANKS)).to_list()


def _columns(frame: pl.DataFrame) -> dict[str, float]:
    """The filled share of each column."""
    return {name: 1 - frame[name].null_count() / max(len(frame), 1) for name in frame.columns}


def _moment(time: Any) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()


def _weeks(dataset: Dataset) -> dict[str, int]:
    """First and last week with an event, how many that spans, and how many of them have any."""
    weeks = np.unique((dataset.events[TIME].to_numpy() - dataset.week_zero) // WEEK)
    return {"first": int(weeks[0]), "last": int(weeks[-1]), "span": int(weeks[-1] - weeks[0] + 1), "with_events": len(weeks)}


def _months(dataset: Dataset) -> dict[str, int]:
    """Events of each month of the shop's calendar that has any."""
    months = local_time(dataset.events[TIME].to_numpy(), dataset.shop.timezone).astype("datetime64[M]").astype(np.int64) % 12
    counts = np.bincount(months, minlength=12)
    return {name: int(n) for name, n in zip(SHORT_MONTHS, counts, strict=True) if n}


def _quantiles(ids: pl.Series) -> dict[str, float]:
    counts: NDArray = ids.value_counts()["count"].to_numpy()
    return {name: float(value) for name, value in zip(QUANTILES, np.quantile(counts, list(QUANTILES.values())), strict=True)}


def _promoted(dataset: Dataset) -> dict[str, Any] | None:
    """How many promotions there are of how many items, of which kinds, from when to when, and in which weeks there is none; None where the
    shop does not tell.
    """
    table, plan = dataset.promotions, dataset.plan
    if table is None or plan is None:
        return None
    weeks = range(_weeks(dataset)["first"], dataset.split.test[1] + 1)
    return {
        "rows": len(table),
        "items": table[ITEM].n_unique(),
        "kinds": dict(table[KIND].value_counts().sort(KIND).iter_rows()),
        "first": _moment(table[START].min()),
        "last": _moment(table[END].max()),
        "weeks_without": [week for week in weeks if not plan.knows(dataset.start_of(week))],
    }


def _examples(dataset: Dataset, texts: list[str], n: int = 3) -> dict[str, str]:
    """The texts of the most bought items that have one."""
    described = dataset.items.select(ITEM).with_columns(text=pl.Series(texts, dtype=pl.String)).filter(pl.col("text") != "")
    counts = dataset.events.group_by(ITEM).len().sort(["len", ITEM], descending=[True, False])
    return dict(counts.join(described, on=ITEM, maintain_order="left").head(n).select(ITEM, "text").iter_rows())


def _part(dataset: Dataset, weeks: range) -> dict[str, Any]:
    """The span of one part of the split, its queries, user-item pairs and cold pairs."""
    queries = dataset.timeline.queries(weeks)
    first_sold = dataset.timeline.first_seen[1][queries.truth_item]
    return {
        "weeks": [weeks[0], weeks[-1]],
        "from": _moment(dataset.start_of(weeks[0])),
        "until": _moment(dataset.start_of(weeks[-1] + 1)),
        "queries": len(queries),
        "pairs": len(queries.truth_item),
        "cold_pairs": int((first_sold >= queries.time[queries.truth_query]).sum()),
    }


def _warnings(found: dict[str, Any]) -> Iterable[str]:
    """What may surprise whoever trains on these data."""
    weeks = found["weeks"]
    no_events = {reason for reasons in REASONS.values() for reason in reasons}  # rows of other tables
    dropped = sum(n for step, n in found["rejected"].items() if step not in no_events)
    if weeks["span"] < LAST_YEAR_WEEKS:
        yield f"{weeks['span']} weeks, under {LAST_YEAR_WEEKS}: counters of last year's season are off"
    if weeks["with_events"] * 2 < weeks["span"]:
        yield f"only {weeks['with_events']} of {weeks['span']} weeks have events: look for stray times, e.g. of 1970"
    if missing := [month for month in SHORT_MONTHS if month not in found["months"]]:
        yield f"no events in {', '.join(missing)}: nothing can be learnt about their season but from texts"
    if found["items_with_text"] < 0.5:
        yield f"{found['items_with_text']:.0%} of items have a text: name one in the columns, or what nobody bought yet cannot be ranked"
    if found["ids_like_blanks"]:
        yield f"ids such as {', '.join(found['ids_like_blanks'][:3])} are taken as they are: where none is known, leave the field empty"
    if dropped > 0.1 * found["events"]:
        yield f"cleaning dropped {dropped:,} rows beside {found['events']:,} events that it kept: see the reasons"
    *useless, _, _ = REASONS[KIND]  # but those of items that nobody buys, and repeated ones
    if bad := sum(found["rejected"].get(step, 0) for step in useless):
        yield f"{bad:,} promotions cannot be used: see the reasons (shares lie above 0 and up to 1)"
    if found["promotions"] and (without := found["promotions"]["weeks_without"]):
        yield f"nothing is promoted in {len(without)} weeks up to the last test week, e.g. week {without[0]}: is the plan whole?"
    if found["events_per_user"]["median"] < 2:
        yield "most users have a single event: a history says little about them"
    if found["country"] in SOUTHERN and found["hemisphere"] == "north":
        yield f"{found['country']} lies in the south, but data.hemisphere is north: December would be called winter"
    if 0 < (rated := found["columns"]["events"].get(RATING, 0)) < 1:
        yield f"{1 - rated:.2%} of events have no rating: for stage=ratings each needs one"
    for part, told in found["split"].items():
        if not told["queries"]:
            yield f"no user buys in the {part} weeks after having bought before: there is nothing to evaluate"


def _grid(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left", overflow="fold")
    return table


def _overview(found: dict[str, Any]) -> Table:
    table, weeks = _grid("what", "found"), found["weeks"]
    table.columns[1].justify = "left"
    table.add_row("span", f"{found['first']} .. {found['last']}")
    table.add_row("weeks", f"{weeks['first']}..{weeks['last']}, {weeks['with_events']} of {weeks['span']} with events")
    table.add_row("seasons", ", ".join(found["seasons"]))
    table.add_row("events by month", "  ".join(f"{month} {n:,}" for month, n in found["months"].items()))
    for whose in ("user", "item"):
        counts = found[f"events_per_{whose}"].items()
        table.add_row(f"events per {whose}", "  ".join(f"{name} {value:,g}" for name, value in counts))
    table.add_row("items with text", f"{found['items_with_text']:.1%}")
    if (an_item := found["products"] / max(found["items"], 1)) >= SEVERAL:
        table.add_row("products", f"{found['products']:,}, {an_item:.1f} an item: model.purchase_texts=50 reads what purchases of each say")
    if plan := found["promotions"]:
        kinds = ", ".join(plan["kinds"])
        said = f"{plan['rows']:,} of {plan['items']:,} items, {plan['first'][:10]} .. {plan['last'][:10]}: {kinds}"
        table.add_row("promotions", Text(said))
    return table


def _column_table(found: dict[str, Any]) -> Table:
    table = _grid("table", "column", "filled")
    table.columns[1].justify = "left"
    for name, columns in found["columns"].items():
        for column, share in columns.items():
            table.add_row(name, Text(column), f"{share:.1%}" if share else "-")  # most of these were not given at all
    return table


def _rejects(found: dict[str, Any]) -> RenderableType:
    table = _grid("cleaning step", "rows dropped")
    for step, n in found["rejected"].items():
        table.add_row(Text(step), f"{n:,}")
    return table


def _splits(found: dict[str, Any]) -> Table:
    table = _grid("split", "weeks", "from", "until", "queries", "pairs", "cold pairs")
    for column in table.columns:
        column.no_wrap = True
    for part, told in found["split"].items():
        span = (f"{told['weeks'][0]}-{told['weeks'][1]}", told["from"][:10], told["until"][:10])
        table.add_row(part, *span, *(f"{told[count]:,}" for count in ("queries", "pairs", "cold_pairs")))
    return table


def _texts(found: dict[str, Any]) -> list[Text]:
    """Texts as they are: a bracket in a product's name is no markup."""
    return [Text(f"{item}: {text}", overflow="ellipsis", no_wrap=True) for item, text in found["texts"].items()]
