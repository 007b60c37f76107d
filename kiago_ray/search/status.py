"""How a row of a search ended. Every row has a status; none is hidden."""

from __future__ import annotations

from enum import IntEnum


class RowStatus(IntEnum):
    """OK rows, and only they, have an integer formula (or a fractional one, where that was asked for)."""

    OK = 0
    NOTHING_ALLOWED = 1
    NOT_FINITE = 2
    NO_INTEGER_FORMULA = 3
    UNKNOWN_ELEMENT = 4

    @property
    def label(self) -> str:
        """The name in tables: "ok", "nothing_allowed", …"""
        return self.name.lower()

    @property
    def meaning(self) -> str:
        """One sentence for a person."""
        return _MEANINGS[self]


_MEANINGS = {
    RowStatus.OK: "The row was optimised and has a formula.",
    RowStatus.NOTHING_ALLOWED: "The row's start holds no element that may be optimised.",
    RowStatus.NOT_FINITE: "A prediction or its gradient was not finite; the row keeps its last finite one.",
    RowStatus.NO_INTEGER_FORMULA: "No allowed number of atoms gives a formula under the constraints.",
    RowStatus.UNKNOWN_ELEMENT: "The given formula holds an element that the predictors don't know.",
}
