"""The live view of `pybrix top`; the only module that needs textual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Input, Static

from pybrix.base.errors import UsageError
from pybrix.cli.top import SORTS
from pybrix.cli.top_view import HEAD, Choice, cells_of, read_top, summary_of


class TopApp(App[None]):
    """A table that is made anew every interval; while no brain answers, the last one stays, and the line above says so.

    Args:
        fetch: returns the document of `/debug/view`.
    """

    TITLE = "pybrix top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; padding: 0 1; }
    #summary.away { background: $error; color: $text; }
    #filter { display: none; }
    #filter.shown { display: block; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("s", "sort", "Sort by the next column"),
        ("slash", "filter", "Filter by model"),
    ]

    def __init__(self, fetch: Callable[[], Awaitable[Any]], choice: Choice, interval_s: float) -> None:
        super().__init__()
        self._fetch = fetch
        self._choice = choice
        self._interval_s = interval_s
        self._document: Any = None
        # Held here: an answer may come when the app ends and its screen is gone.
        self._summary = Static("", id="summary", markup=False)
        self._table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
        self._field = Input(value=choice.model, placeholder="part of a model's name", id="filter")

    def compose(self) -> ComposeResult:
        yield self._summary
        yield self._table
        yield self._field
        yield Footer()

    async def on_mount(self) -> None:
        for title in HEAD:
            self._table.add_column(title, key=title)
        self._table.focus()
        await self.refresh_view()
        self.set_interval(self._interval_s, self.refresh_view)

    async def refresh_view(self) -> None:
        """Ask the brain and show what it says, or that it is away."""
        try:
            self._document = await self._fetch()
        except UsageError as err:
            self._summary.add_class("away")
            self._summary.update(f"{err} - asking again every {self._interval_s:g} s")
            return
        if self.is_running:
            self._show()

    def _show(self) -> None:
        if self._document is None:
            return
        top = read_top(self._document, self._choice)
        summary = self._summary
        summary.remove_class("away")
        order = f", sorted by {self._choice.sort}"
        only = "".join(f", {name} {text}" for name, text in self._kept() if text)
        summary.update(summary_of(top) + order + only)
        table = self._table
        place, scroll = table.cursor_row, table.scroll_y
        table.clear()
        for name, *numbers in cells_of(top):
            style = "" if name.startswith(" ") else "bold"
            table.add_row(Text(name, style), *(Text(number, style, justify="right") for number in numbers))
        table.move_cursor(row=min(place, max(0, table.row_count - 1)), scroll=False)
        table.scroll_to(y=scroll, animate=False)

    def _kept(self) -> tuple[tuple[str, str], ...]:
        return (("model", self._choice.model), ("namespace", self._choice.namespace))

    def action_sort(self) -> None:
        """Sort by what comes next."""
        following = SORTS[(SORTS.index(self._choice.sort) + 1) % len(SORTS)]
        self._choice = replace(self._choice, sort=following)
        self._show()

    def action_filter(self) -> None:
        """Ask for a part of a model's name."""
        self._field.add_class("shown")
        self._field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._choice = replace(self._choice, model=event.value)
        self._show()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self._field.remove_class("shown")
        self._table.focus()
