"""Tables for a terminal of any width, of which nothing is cut: the columns that matter least stand below their row, as
names and values, where they find no room; and what a terminal that knows no Unicode shows instead of a sign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

UNKNOWN = "–"
LONGEST_NAME = 24  # where there is little room, a longer one has a line of its own
_MOST_LINES = 2  # of a text beside the others; a longer one stands below
_INDENT = 4
# Signs of ours and of rich's lists and lines, as a terminal without Unicode shows them.
_SIGNS = "–- —- −- ·| •* ×x →-> ≤<= ≥>= ✓+ ✗x ─- ━= ╸= ╺- │| “' ”' ’' ±+/- Δd σsigma κkappa αalpha βbeta µu"
_IN_ASCII = {pair[0]: pair[1:] for pair in _SIGNS.split()}


def in_ascii(text: str) -> str:
    """The text in ASCII: signs in letters, letters without accents, a question mark for any other character."""

    def plain(sign: str) -> str:
        return _IN_ASCII.get(sign) or normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"

    return "".join(sign if sign.isascii() else plain(sign) for sign in text)


@dataclass(frozen=True)
class RowTable:
    """A table that rich prints in the width there is.

    rows: header → cell, by the headers of the first, those first that matter most. names: columns that stand left and
    are whole, such as formulas; the first of them always keeps its place, and so does what stands before it. texts:
    columns that stand left and are wrapped between words. All others stand right and are whole. Below go, as far as
    needed, the columns of `spare` in that order, then the last ones. What no row has is left out. styles: of each row.
    """

    rows: Sequence[Mapping[str, str | Text]]
    names: Collection[str] = ()
    texts: Collection[str] = ()
    spare: Sequence[str] = ()
    title: str | None = None
    styles: Sequence[str] = ()

    @property
    def own(self) -> list[str]:
        """The headers of what is shown."""
        named = [*self.rows[0]] if self.rows else []
        return [name for name in named if any(str(row[name]) not in ("", UNKNOWN) for row in self.rows)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def shown(cell: str | Text) -> Text:
            text = cell if isinstance(cell, Text) else Text(cell)
            return Text(in_ascii(text.plain), text.style) if options.ascii_only else text

        headers = [shown(header) for header in self.own]
        rows = [[shown(row[name]) for name in self.own] for row in self.rows]
        if self.title:
            yield shown(self.title)
        widths, gap = self.layout(headers, rows, options.max_width)
        yield self.line(headers, widths, gap, "bold")
        for cells, style in zip(rows, self.styles or [""] * len(rows), strict=True):
            beside = [*cells]
            for place, header in enumerate(self.own):
                if header in self.names and 0 < widths[place] < cell_len(cells[place].plain):
                    yield Text(cells[place].plain, style)
                    beside[place] = Text()
            yield self.line(beside, widths, gap, style)
            yield from self.below(headers, cells, widths, options.max_width, style)

    def layout(
        self, headers: Sequence[Text], rows: Sequence[Sequence[Text]], width: int
    ) -> tuple[list[int], int]:
        """The width of each column, 0 for one that goes below, and the gap between two."""
        own = self.own
        heads = [max(map(cell_len, header.plain.split("\n"))) for header in headers]
        columns = [[cell_len(row[place].plain) for row in rows] for place in range(len(own))]
        whole = [max([head, *column]) for head, column in zip(heads, columns, strict=True)]
        if sum(whole) + 2 * (len(own) - 1) <= width:
            return whole, 2
        key = next((place for place, name in enumerate(own) if name in self.names), 0)
        least = [*whole]
        for place, name in enumerate(own):
            if name in self.names:
                short = [length for length in columns[place] if length <= LONGEST_NAME]
                least[place] = max([heads[place], *short], default=0)
            elif name in self.texts:
                words = [cell_len(word) for row in rows for word in row[place].plain.split()]
                least[place] = max([heads[place], -(-whole[place] // _MOST_LINES), *words])
        leaving = [own.index(name) for name in self.spare if name in own]
        leaving += [place for place in reversed(range(len(own))) if place not in leaving]
        stay = [*range(len(own))]
        for place in (place for place in leaving if place > key):
            if sum(least[at] for at in stay) + len(stay) - 1 <= width:
                break
            stay.remove(place)
        taken = sum(least[at] for at in stay)
        gap = 2 if taken + 2 * (len(stay) - 1) <= width else 1
        room = width - taken - gap * (len(stay) - 1)
        least[key] += min(room, 0)  # a first column that is wider than the terminal is folded
        widths = [least[place] if place in stay else 0 for place in range(len(own))]
        for place in (place for place in stay if own[place] in self.texts):
            more = max(0, min(room, whole[place] - widths[place]))
            widths[place], room = widths[place] + more, room - more
        return widths, gap

    def line(self, cells: Sequence[Text], widths: Sequence[int], gap: int, style: str) -> Table:
        """The cells that stand beside each other."""
        grid = Table.grid(padding=(0, gap, 0, 0))
        beside = [place for place, width in enumerate(widths) if width > 0]
        for place in beside:
            left = self.own[place] in {*self.names, *self.texts}
            justify: Literal["left", "right"] = "left" if left else "right"
            grid.add_column(justify=justify, width=widths[place], overflow="fold", vertical="top")
        grid.add_row(*(cells[place] for place in beside), style=style)
        return grid

    def below(
        self, headers: Sequence[Text], cells: Sequence[Text], widths: Sequence[int], width: int, style: str
    ) -> RenderResult:
        """Lines of what finds no room in the row: short values beside each other, each text on a line of its own."""
        lines = [""]
        for place, (header, cell) in enumerate(zip(headers, cells, strict=True)):
            if widths[place] > 0 or cell.plain in ("", UNKNOWN, in_ascii(UNKNOWN)):
                continue
            told = " ".join([*header.plain.replace("-\n", "").split(), cell.plain])
            longer = f"{lines[-1]}{'; ' if lines[-1] else ''}{told}"
            if cell_len(longer) + _INDENT <= width or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(told)
        for text in filter(None, lines):
            yield Padding(Text(text, style), (0, 0, 0, _INDENT), expand=False)
