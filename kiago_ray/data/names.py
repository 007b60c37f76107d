"""Formulas as people write them. `read` refuses, with what may be meant, all that `chemistry.formula.parse` can't
read, and what it would read as something that nobody meant, by these rules alone:

- a name of a family (`names.csv`) is no formula: YBCO, unless it has small letters and is a known compound (SrO);
- a formula has at most 150 atoms, as for SuperCon's loader, or is a known compound: above stand lost decimal points
  and zeros for O;
- water after a point, CuSO4.5H2O, may be O4.5, unless all is written in the usual order of its elements;
- capitals, or zeros before a digit, may make another compound: NB3SN, La2Cu04. Such a formula is refused where that
  one is known, and it itself isn't, or isn't in the usual order of its elements, or has an amount such as 04.

Known is what the tables that ship hold. An amount of 1 that is written out says that capitals are meant (N1B1N1).
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from functools import cache

from kiago_ray.chemistry.elements import COMMON, SYMBOLS, WRITING_RANK
from kiago_ray.chemistry.formula import FormulaError, parse

MAX_ATOMS = 150.0
"""Of one formula as written. The largest real ones (clathrates such as Ba24Si100, alloys in per cent) have 124."""
_MOST_READINGS = 200
_LONGEST = 60  # characters of a text that other readings are looked for in
_FILE = "names.csv"
_WATER = re.compile(r"(?<=[A-Za-z)\]}])(?P<amount>[0-9]+)\.(?P<count>[0-9]*)H2O$")
_LEADING_ZERO = re.compile(r"[A-Za-z)\]}]0[0-9]")
_TOKENS = re.compile(r"[A-Z][a-z]?|[0-9.]+|.")
_POLYTYPE = re.compile(r"^(?:[0-9]{1,2}[HRTC][a-z]?[′']?|[α-ω])-(?=[A-Z(\[])")
_LOOKALIKES = str.maketrans("АВСЕНІКМОРЅТХУаеосрхуΑΒΕΗΙΚΜΝΟΡΤΥΖ", "ABCEHIKMOPSTXYaeocpxyABEHIKMNOPTYZ")
_DECIMALS = re.compile(r"\.[0-9]*$")
_SUSPECT = re.compile(r"[A-Z]{2}|0[0-9]")
_ELEMENTS = frozenset(SYMBOLS[:COMMON])


def read(text: str) -> dict[str, float]:
    """Amounts by symbol, as `parse` gives them. Raises FormulaError, with what may be meant, also for a "name", and
    for what is "ambiguous".
    """
    if not isinstance(text, str):
        return parse(text)
    plain = unicodedata.normalize("NFKC", text.strip()).translate(_LOOKALIKES)
    name = _as_name(plain)
    named = _names().get(name) or _names().get(name.replace("0", "O"))
    if named is not None and (plain.isupper() or not _is_known(plain)):
        formula, family = named
        message = f"{text.strip()[:40]!r} is a name ({family}) and no formula; did you mean {formula}?"
        raise FormulaError("name", f"name: {message}")
    try:
        amounts = parse(text)
    except FormulaError as error:
        meant = _meant(plain)
        hint = f"; did you mean {meant}?" if meant else ""
        raise FormulaError(error.reason, f"{error}{hint}", error.position) from None
    _check_atoms(text, plain, amounts)
    if (water := _WATER.search(plain)) is not None and not _in_order(plain):
        count = water["count"] or "1"
        dry = plain[: water.end("amount")]
        message = (
            f"{text[:60]!r} may hold {count} H2O; write {dry}·{count}H2O, or H2O in brackets if none is meant"
        )
        raise FormulaError("ambiguous", f"ambiguous: {message}")
    meant = _other_capitals(plain)
    if meant is not None:
        held = ", ".join(f"{amount:g} {symbol}" for symbol, amount in amounts.items())
        message = f"{text[:60]!r} is read as {held}; did you mean {meant}? If not, write amounts of 1 out"
        raise FormulaError("ambiguous", f"ambiguous: {message}")
    return amounts


def _check_atoms(text: str, plain: str, amounts: dict[str, float]) -> None:
    if sum(amounts.values()) <= MAX_ATOMS or _is_known(plain):
        return
    symbol = max(amounts, key=lambda each: amounts[each])
    meant = next(filter(_is_known, _readings(plain, keep_small=False)), None)
    advice = f"did you mean {meant}?" if meant else "write smaller amounts in the same ratio"
    held = (
        f"{text[:60]!r} has {amounts[symbol]:g} atoms of {symbol}, and a formula at most {MAX_ATOMS:g} in all"
    )
    raise FormulaError("amount out of bounds", f"amount out of bounds: {held}; {advice}")


def _as_name(plain: str) -> str:
    """A text as `names.csv` has names: capitals and digits alone."""
    return re.sub(r"[-\u2010-\u2013\u2212\s(),/]", "", plain).upper() if len(plain) <= _LONGEST else ""


@cache
def _names() -> dict[str, tuple[str, str]]:
    """Name → formula that stands for the family, and what the family is."""
    from kiago_ray.data.tables import content  # which few formulas need

    rows = csv.DictReader(io.StringIO(content(_FILE).decode("utf-8")))
    return {row["name"]: (row["formula"], row["what"]) for row in rows}


@cache
def _known() -> frozenset[str]:
    """The canonical formulas of all tables that ship."""
    from kiago_ray.data.tables import landmarks, made, phases, superconductors

    tables = (superconductors(), phases(), made(), landmarks())
    return frozenset(itertools.chain.from_iterable(table["formula"] for table in tables)) | _ELEMENTS


def _canonical(text: str) -> str | None:
    """A formula as the tables have it, an element by its symbol alone; None for what can't be read so."""
    from kiago_ray.data.compositions import canonical

    try:
        amounts = parse(text)
    except FormulaError:
        return None
    return canonical(amounts) if len(amounts) > 1 or text in amounts else None


def _is_known(text: str) -> bool:
    return _canonical(text) in _known()


def _in_order(plain: str) -> bool:
    """Whether each element stands once, and from the least to the most electronegative, as programs write them."""
    symbols = [each for each in _TOKENS.findall(plain) if each in WRITING_RANK]
    return symbols == sorted(set(symbols), key=WRITING_RANK.__getitem__)


def _other_capitals(plain: str) -> str | None:
    """What else a formula may be whose capitals stand for small letters, or zeros for O; None where nothing is."""
    if not _SUSPECT.search(plain):  # which spares nearly all formulas the rest
        return None
    others = [each for each in _readings(plain, keep_small=True) if each != plain]
    as_usual = _in_order(plain) and not _LEADING_ZERO.search(plain)
    if not others or (as_usual and _is_known(plain)):
        return None
    own = _canonical(plain)
    return next((each for each in others if (other := _canonical(each)) != own and other in _known()), None)


def _meant(plain: str) -> str | None:
    """What a text that can't be used may be: a known compound first, else what has the fewest elements."""
    if len(plain) > _LONGEST:
        return None
    plain = re.sub(r"\s", "", _POLYTYPE.sub("", plain))
    readings = [each for each in _readings(plain, keep_small=False) if _readable(each)]
    known = (each for each in readings if _is_known(each))
    return next(known, min(readings, key=lambda each: len(parse(each)), default=None))


def _readable(text: str) -> bool:
    try:
        return sum(parse(text).values()) <= MAX_ATOMS
    except FormulaError:
        return False


def _readings(plain: str, *, keep_small: bool) -> list[str]:
    """Up to 200 ways to write a text with other capitals and with O for zeros before a digit, those with longer
    symbols first.

    keep_small: small letters stay with the capital before them.
    """
    if len(plain) > _LONGEST:
        return []
    tails: dict[int, list[str]] = {len(plain): [""]}  # what may follow from a place on; built from the end
    for at in reversed(range(len(plain))):
        here, after = plain[at], plain[at + 1 : at + 2]
        pieces = [here + after.lower()] if after.isalpha() else []
        if not (keep_small and (here.islower() or after.islower())):
            pieces.append(here)
        pieces = [each for piece in pieces if (each := piece[0].upper() + piece[1:]) in _ELEMENTS]
        if not here.isalpha():
            pieces.append(here)
        if here == "0" and after.isdigit() and not _DECIMALS.search(plain, 0, at):
            pieces.append("O")
        grown = (piece + tail for piece in pieces for tail in tails[at + len(piece)])
        tails[at] = list(itertools.islice(grown, _MOST_READINGS))
    return tails[0]
