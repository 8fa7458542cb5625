"""The panels that are words and numbers: tables, history, settings and the facts at the top."""

import math
from html import escape
from typing import Any

from triform.errors import DataError
from triform.report.axes import MINUS, format_number
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Cell, Events, Fact, KeyValues, Table

TROUBLE = ("interrupt", "quarantin", "fail", "lost", "error", "diverge", "kill", "crash", "skip", "stop")
SUCCESS = ("finish", "complete", "done", "resume", "best", "saved")


def facts_html(facts: tuple[Fact, ...]) -> str:
    """Cards for the top of the page."""
    cards = "".join(
        f"<div><dt>{escape(fact.label)}</dt><dd>{escape(fact.value)}</dd>{f'<dd>{escape(fact.note)}</dd>' if fact.note else ''}</div>"
        for fact in facts
    )
    return f'<dl class="facts">{cards}</dl>' if facts else ""


def table_fragment(panel: Table) -> Fragment:
    """A table that sorts on a click on a column's name; the numbers of a column have the same number of decimals.

    Raises:
        DataError: A row has not as many cells as there are columns.
    """
    for index, row in enumerate(panel.rows):
        if len(row) != len(panel.columns):
            raise DataError(
                f"Row {index} of the table {panel.title!r} has {len(row)} cells",
                expected=f"{len(panel.columns)}, one a column",
                do="Use None for a value that is missing",
            )
    columns = list(zip(*panel.rows, strict=True)) if panel.rows else [() for _ in panel.columns]
    shown = [_column(cells) for cells in columns]
    numeric = [_is_numeric(cells) for cells in columns]
    head = "".join(
        f'<th scope="col"{_number_class(number)} aria-sort="none"><button type="button">{escape(name).replace("_", "_<wbr>")}</button></th>'
        for name, number in zip(panel.columns, numeric, strict=True)
    )
    body = "".join(_row(panel, index, [texts[index] for texts in shown], numeric) for index in range(len(panel.rows)))
    table = f"<table data-sortable><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Fragment(
        f'{note_html(panel.note)}<div class="scroll" tabindex="0" role="region" aria-label="{escape(panel.title)}">{table}</div>'
    )


def events_fragment(panel: Events) -> Fragment:
    """The history as a line of time; kinds that mean trouble or success get a colour beside their name."""
    rows = "".join(
        f'<li class="{_tone(event.kind)}"><time>{escape(event.time)}</time><b>{escape(event.kind)}</b><p>{escape(event.text)}</p></li>'
        for event in panel.rows
    )
    return Fragment(f'{note_html(panel.note)}<ol class="events">{rows}</ol>')


def key_values_fragment(panel: KeyValues) -> Fragment:
    """Names and values in two columns where the page is wide enough."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in panel.rows)
    return Fragment(f'<dl class="values">{rows}</dl>')


def _row(panel: Table, index: int, texts: list[str], numeric: list[bool]) -> str:
    cells = []
    for at, (text, number, cell) in enumerate(zip(texts, numeric, panel.rows[index], strict=True)):
        value = f' data-value="{float(cell)!r}"' if number and isinstance(cell, int | float) else ""
        tag, scope = ("th", ' scope="row"') if at == 0 and not number else ("td", "")
        cells.append(f"<{tag}{scope}{_number_class(number)}{value}>{escape(text)}</{tag}>")
    strong = ' class="strong"' if index == panel.emphasize else ""
    return f"<tr{strong}>{''.join(cells)}</tr>"


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _is_numeric(cells: tuple[Cell, ...]) -> bool:
    return any(_is_number(cell) for cell in cells) and not any(isinstance(cell, str) for cell in cells)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _column(cells: tuple[Cell, ...]) -> list[str]:
    """The column's texts: four significant digits for its largest number, and as many decimals for the others."""
    sizes = [abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell) and cell != 0]
    decimals = min(max(3 - math.floor(math.log10(max(sizes))), 0), 6) if sizes else 0
    return [_cell(cell, decimals) for cell in cells]


def _cell(cell: Cell, decimals: int) -> str:
    if cell is None:
        return "\u2013"
    if isinstance(cell, float) and not isinstance(cell, bool):
        unreadable = not math.isfinite(cell) or abs(cell) >= 1e7 or 0 < abs(cell) < 0.5 * 10.0**-decimals
        return format_number(cell) if unreadable else f"{cell:,.{decimals}f}".replace("-", MINUS)
    return f"{cell:,}".replace("-", MINUS) if _is_number(cell) else str(cell)


def _tone(kind: str) -> str:
    word = kind.lower()
    if any(part in word for part in TROUBLE):
        return "trouble"
    return "success" if any(part in word for part in SUCCESS) else "plain"
