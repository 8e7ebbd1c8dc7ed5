"""What HTML pages are made of. They need nothing from elsewhere: styles stand in them, pictures are embedded, there are no scripts.

Whatever comes from data is escaped: text is safe unless it is `Html`, which only code that makes markup says of its own.
"""

import base64
import html
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.figure import Figure

from seasonrec.errors import DataError
from seasonrec.evaluation.tables import ABSENT

REPORT: Final = "report.html"
DPI: Final = 150

Picture = Callable[[str, Callable[[], Figure], str], "Html"]  # name, how to draw it, caption


class Html(str):
    """Text that is markup already."""


def write_page(folder: Path, title: str, sections: Mapping[str, Html], header: str = "") -> Path:
    """The path of report.html, made in a folder of sections by their titles."""
    body = "".join(f"<section><h2>{html.escape(name)}</h2>{content}</section>" for name, content in sections.items())
    path = folder / REPORT
    page = PAGE.format(title=html.escape(title), style=STYLE, header=header, body=body)
    path.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return path


def picture(folder: Path, name: str, draw: Callable[[], Figure], caption: str) -> Html:
    """The drawn figure, saved as plots/`name`.png and embedded; where its data have no value, a line that says so."""
    try:
        figure = draw()
    except DataError as error:
        return missing(f"No picture. {error}")
    path = folder / "plots" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=DPI)
    data = base64.b64encode(path.read_bytes()).decode()
    note = html.escape(caption)
    return Html(f"<figure><img alt='{note}' src='data:image/png;base64,{data}'><figcaption>{note}</figcaption></figure>")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, ours: Collection[str] = (), kind: str = "numbers") -> Html:
    """A table; rows whose first cell is one of `ours` stand out."""
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in heads)
    body = "".join(
        f"<tr{' class=ours' if row[0] in ours else ''}>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return Html(f"<div class='wide'><table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def frame(rows: pl.DataFrame) -> Html:
    """A data frame as a table."""
    return table(rows.columns, [[ABSENT if cell is None else str(cell) for cell in row] for row in rows.iter_rows()])


def folded(title: str, content: Html) -> Html:
    """What opens when its title is clicked."""
    return Html(f"<details><summary>{html.escape(title)}</summary>{content}</details>")


def two_lines(first: str, *others: str) -> Html:
    """A line, and smaller ones below it."""
    return Html(_safe(first) + "".join(f"<small>{_safe(other)}</small>" for other in others))


def list_of(notes: Sequence[str]) -> Html:
    """Notes as a list."""
    return Html(f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>")


def missing(text: str) -> Html:
    """A line about what is not there."""
    return Html(f"<p class='missing'>{html.escape(text)}</p>")


def _safe(text: str) -> str:
    return text if isinstance(text, Html) else html.escape(text)


def block(content: Mapping[str, Any]) -> Html:
    """Plain containers for reading."""
    return Html(f"<pre>{html.escape(chr(10).join(_lines(content)))}</pre>")


def _lines(value: Any, indent: str = "") -> Iterable[str]:
    """The value in the manner of YAML, for reading."""
    named = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
    for key, part in named:
        head = f"{indent}-" if key is None else f"{indent}{key}:"
        if part and (isinstance(part, Mapping) or (isinstance(part, list) and any(isinstance(each, Mapping | list) for each in part))):
            yield head
            yield from _lines(part, indent + "  ")
        else:
            yield f"{head} {part if isinstance(part, str) and part else json.dumps(part, ensure_ascii=False)}"


def number(value: float | None, form: str = ".4f") -> str:
    """A number as text, or the sign for none."""
    return ABSENT if value is None else format(value, form)


PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{header}</header>
{body}
</body>
</html>
"""
STYLE: Final = """
:root { color-scheme: light dark; --ink: #24292f; --quiet: #57606a; --line: #d8dee4; --page: #ffffff; --card: #f6f8fa;
  --ours: #fff1e5; --accent: #bc4c00; --up: #116329; --down: #a40e26; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --quiet: #9198a1; --line: #30363d; --page: #0d1117; --card: #161b22;
    --ours: #33200f; --accent: #f0883e; --up: #56d364; --down: #ff7b72; }
  figure img { filter: invert(0.93) hue-rotate(180deg); }
}
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1200px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 19px; margin: 44px 0 12px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 20px 0 6px; } h4 { font-size: 14px; margin: 4px 0; color: var(--quiet); font-weight: 600; }
.quiet, small, figcaption, .missing { color: var(--quiet); } .missing { font-style: italic; }
.lead { margin: 18px 0; } small { display: block; font-size: 11px; line-height: 1.35; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.tile h3 { margin: 0; font-weight: 500; color: var(--quiet); } .tile strong { font-size: 20px; }
.ours { background: var(--ours); } .tile.ours strong, tr.ours td:first-child { color: var(--accent); }
.wide { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 6px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; white-space: normal; vertical-align: bottom; } th small { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
table.list { width: 100%; } .list th:nth-child(2), .list td:nth-child(2) { text-align: left; white-space: normal; width: 60%; }
.list th:nth-child(4), .list td:nth-child(4) { text-align: left; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); gap: 28px; }
.legend span { margin-right: 18px; } .legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
svg line { stroke: var(--quiet); stroke-width: 1; }
.up { color: var(--up); font-weight: 600; } .down { color: var(--down); font-weight: 600; } .open { color: var(--quiet); }
figure { margin: 14px 0; } figure img { width: 100%; border-radius: 6px; } figcaption { font-size: 13px; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--quiet); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 12.5px; }
pre.error { border-color: var(--down); }
"""
