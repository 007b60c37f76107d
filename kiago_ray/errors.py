"""The errors that a person can put right, on one base. A room that has its own kind derives it from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class KiagoError(Exception):
    """Something that a person can put right. The message is one line: what is wrong, where, and what to do.
    exit_code: what the command ends with. status: what the service answers with; from 500 on, the message is for
    the operator alone.
    """

    exit_code: ClassVar[int] = 2
    status: int = 500


class InputError(KiagoError, ValueError):
    """What a person gave can't be used: an option, a file, a specification, a cluster's address."""


def first_of(parts: Sequence[str], most: int, mark: str = "; ") -> str:
    """The first `most` of these parts in one line, and how many more there are."""
    more = [f"and {len(parts) - most} more"] if len(parts) > most else []
    return mark.join([*parts[:most], *more])
