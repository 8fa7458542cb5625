"""A part of the page: HTML, and the data that the page's script needs for it."""

from html import escape
from typing import Any, NamedTuple


class Fragment(NamedTuple):
    """Finished HTML (everything in it escaped), and JSON-ready data under the name of the script that reads it."""

    html: str
    data: tuple[tuple[str, dict[str, Any]], ...] = ()


def note_html(note: str) -> str:
    """A remark below a panel's title, or nothing."""
    return f'<p class="note">{escape(note)}</p>' if note else ""
