"""Formulas in and predictions out, as JSON, as lines of JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic_core import to_json

from kiago_ray.api import Scores
from kiago_ray.service.problems import ProblemError, writable
from kiago_ray.service.settings import Limits
from kiago_ray.storage.table import PREDICTED

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
COLUMNS = ("formula", *PREDICTED, "error")
_DECIMALS = 6


def wanted(accept: str) -> str:
    """The first of our formats among those that a client accepts, in its order; JSON if it names none.

    Raises ProblemError, 406, where it accepts other formats alone.
    """
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    for each in named:
        if each in (JSON, NDJSON, CSV):
            return each
        if each in ("*/*", "application/*"):
            return JSON
    if named and "text/*" not in named:
        raise ProblemError(406, f"there is no {named[0][:80]} here; accept {JSON}, {NDJSON} or {CSV}")
    return CSV if named else JSON


def read_formulas(body: bytes, content_type: str, limits: Limits) -> list[Any]:
    """The formulas of a request: {"formulas": [...]}, or CSV with a column `formula`. Raises ProblemError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == CSV:
        found = _from_csv(body, limits)
    elif kind == JSON or kind.endswith("+json"):
        found = _from_json(body)
    else:
        raise ProblemError(415, f"{kind[:80] or 'no Content-Type'} can't be read here; send {JSON} or {CSV}")
    if not found:
        raise _invalid("formulas", 'there are none; send at least one, such as {"formulas": ["MgB2"]}')
    if len(found) > limits.formulas:
        raise _invalid(
            "formulas",
            f"{len(found):,} are more than the {limits.formulas:,} of one request; send several requests",
        )
    return found


def too_long(formula: Any, limits: Limits) -> str | None:
    """Why a formula isn't even read: it isn't text, or is longer than this service takes."""
    if not isinstance(formula, str):
        return "a formula is text such as 'LaNiAsO'"
    if len(formula) > limits.formula_length:
        return f"too long: this service takes {limits.formula_length} characters a formula"
    if formula != writable(formula):
        return "it holds half of a character; send UTF-8"
    return None


def with_refused(given: Sequence[Any], refused: Sequence[str | None], scores: Scores) -> Scores:
    """Scores of those that were not refused, with the refused ones in their places."""
    if len(scores.formulas) == len(given):
        return scores
    fine = np.array([why is None for why in refused])
    table = scores.table.take(pa.array(np.cumsum(fine) - 1, mask=~fine))
    told, errors = iter(scores.formulas), iter(scores.errors)
    texts = [
        next(told) if why is None else writable(str(each)[:80])
        for each, why in zip(given, refused, strict=True)
    ]
    return Scores(tuple(texts), table, tuple(next(errors) if why is None else why for why in refused))


def rows(scores: Scores) -> Iterator[dict[str, Any]]:
    """Predictions one by one; null for what isn't known."""
    columns = [_plain(scores.table[name]) for name in PREDICTED]
    for formula, error, *values in zip(scores.formulas, scores.errors, *columns, strict=True):
        yield {"formula": formula, **dict(zip(PREDICTED, values, strict=True)), "error": error}


def write(scores: Scores, version: str, kind: str) -> bytes:
    """The body of an answer."""
    if kind == NDJSON:
        return b"".join(to_json(row) + b"\n" for row in rows(scores))
    if kind == CSV:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows(scores):
            writer.writerow({name: _harmless(value) for name, value in row.items()})
        return text.getvalue().encode("utf-8")
    return to_json({"version": version, "predictions": list(rows(scores))})


def _plain(column: Any) -> list[Any]:
    """A column's values, None where there is none, numbers to as many digits as mean something."""
    if not pa.types.is_floating(column.type):
        return list(column.to_pylist())
    rounded = column.to_numpy().round(_DECIMALS).tolist()
    return [value if value == value else None for value in rounded]


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula of its own gets a quote in front; true and false as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _from_json(body: bytes) -> list[Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise _invalid("body", 'this is no JSON; send such as {"formulas": ["MgB2"]}') from None
    if not isinstance(content, dict) or not isinstance(content.get("formulas"), list):
        raise _invalid("formulas", 'send a list of formulas, such as {"formulas": ["MgB2", "LaNiAsO"]}')
    others = [str(key)[:40] for key in content if key != "formulas"]
    if others:
        raise _invalid(others[0], "unknown key; the only one is `formulas`")
    found: list[Any] = content["formulas"]
    return found


def _from_csv(body: bytes, limits: Limits) -> list[Any]:
    """No more lines are read than tell that there are too many."""
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        lines = list(islice(csv.reader(text, strict=True), 2 * limits.formulas + 2))
    except (UnicodeDecodeError, csv.Error):
        raise _invalid("body", "this is no CSV in UTF-8; export it again") from None
    header = lines[0] if lines else []
    if header.count("formula") != 1:
        raise _invalid("body", "the CSV has no single column `formula`; name one so in its first line")
    at = header.index("formula")
    return [line[at] if at < len(line) else "" for line in lines[1:] if line]


def _invalid(where: str, message: str) -> ProblemError:
    return ProblemError(422, f"{where}: {message}", errors=[{"where": where, "message": message}])
