"""Formulas as text ↔ amounts by element ↔ fractions over the 118 elements (the paper's x, section 2.1).

The grammar: `formula = part+`, `part = (symbol | bracket formula bracket) [amount]`. Brackets are round, square or
curly; an amount is a plain decimal (`2`, `1.85`, `.5`, `2.`) in ordinary or subscript digits; whitespace may stand
between any two of these. Amounts multiply and add up as exact decimals and are rounded once, at the end.

Isotopes are their element, as an argument and in a file: D and T are hydrogen, and a mass number in square brackets
with its symbol or raised before it is left out ([11B], ¹¹B). Water of crystallisation stands behind a raised dot, a
star or a colon, with its number of molecules: CuSO4·5H2O. `data.names` reads what a person writes, and is stricter.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, WRITING_ORDER, properties
from kiago_ray.errors import InputError

MAX_LENGTH = 400  # characters; ten elements with amounts of full precision need about 200
MAX_DEPTH = 10  # brackets within brackets
MIN_AMOUNT, MAX_AMOUNT = 1e-9, 1e9
AMOUNT_DECIMALS = 4  # of the amounts of proposed formulas that aren't whole
_RELATED_L1 = 0.4  # of atomic fractions; a formula is written in the size of what is nearer than this
_WHOLE = 1e-6  # atoms: a fixed amount counts as whole within this
_BOUNDS = f"amounts lie between {MIN_AMOUNT:g} and {MAX_AMOUNT:g}"
MAX_DIGITS = 30  # characters of one amount; a double between the bounds needs at most 27

_EXACT = Context(prec=MAX_DIGITS * (MAX_DEPTH + 2))  # products of nested amounts stay exact
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
# Subscripts, the hyphens and minus signs of typeset text, low dots, zero-width spaces: one character for one,
# so that positions remain those of the text as given.
_PLAIN = str.maketrans(
    _SUBSCRIPTS + "₊₋ₓ" + "\u2010\u2011\u2013\u2212" + "\u2024\uff0e" + "\u200b\ufeff",
    "0123456789" + "+-x" + "----" + ".." + "  ",
)
_ISOTOPE = re.compile(r"\[[0-9]{1,3}([A-Z][a-z]?)\]|[⁰¹²³⁴-⁹]{1,3}(?=[A-Z])")
_HYDROGEN = frozenset(("D", "T"))
_WATER = re.compile(
    r"[\u00b7\u2022\u2027\u22c5\u2219*:]\s*(?:(?P<count>[0-9.]*)\s*[HD]2O|\([HD]2O\)\s*(?P<after>[0-9.]*))\s*$"
)
_CHARGE = re.compile(r"[⁰¹²³⁴-⁹]*[-+⁺⁻]\s*$")
# A raised dot is a decimal point between subscripts only: in CuSO4·5H2O it means something else.
_RAISED_DOT = re.compile(f"(?<=[{_SUBSCRIPTS}])[\u00b7\u2027\u22c5\u2219](?=[{_SUBSCRIPTS}])")
_TOKEN = re.compile(
    r"(?P<symbol>[A-Z][a-z]?)|(?P<number>[0-9.]+)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<space>\s+)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_WRITTEN_PART = re.compile(r"([A-Z][a-z]?)([0-9.]*)")
# What people write for an amount that was not measured: Oz, or SuperCon's OZ. Y is an element unless a sign
# precedes it.
_UNKNOWN_AMOUNTS = frozenset("xyzuvwdnmδεηλ")
_UNKNOWN_CAPITALS = frozenset("XZ")


class FormulaError(InputError):
    """A formula that can't be read or written. reason: a slug to count by. position: 1-based, None without one."""

    status = 422

    def __init__(self, reason: str, message: str, position: int | None = None) -> None:
        super().__init__(reason, message, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return str(self.args[1])


def parse(text: str) -> dict[str, float]:
    """Amounts by symbol, in order of appearance; an element that appears twice is added up. Raises FormulaError,
    naming the character and its 1-based position, for anything but a formula with definite amounts between 1e-9 and
    1e9. Reasons: "not text", "too long", "empty", "unknown element", "undetermined amount", "zero amount", "negative
    amount", "amount out of bounds", "brackets", "charge", "syntax".
    """
    if not isinstance(text, str):
        raise FormulaError("not text", f"a formula is text such as 'LaNiAsO', not {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        message = f"too long: a formula may have {MAX_LENGTH} characters, {text[:20]!r}… has {len(text)}"
        raise FormulaError("too long", message, MAX_LENGTH + 1)
    plain = _plain(text)
    water = _WATER.search(plain)
    group = _atoms(text, plain if water is None else plain[: water.start()])
    if water is not None:
        count = "after" if water["count"] is None else "count"
        molecules = _amount(text, water[count], water.start(count)) if water[count] else Decimal(1)
        _add(group, {"H": _EXACT.multiply(Decimal(2), molecules), "O": molecules})
    return {symbol: _bounded(symbol, float(amount), repr(text)) for symbol, amount in group.items()}


def _atoms(text: str, plain: str) -> dict[str, Decimal]:
    """Exact amounts by symbol in a formula without water; `text` is what a person gave, for messages."""
    group: dict[str, Decimal] = {}  # what the innermost open bracket holds so far
    part: dict[str, Decimal] = {}  # the last symbol or bracket, which an amount may still follow
    open_brackets: list[tuple[int, dict[str, Decimal]]] = []  # where each opened, and what stood before it
    before = "open"  # the kind of the token before this one
    for match in _TOKEN.finditer(plain):
        kind, token, at = str(match.lastgroup), match.group(), match.start()
        if kind == "space":
            continue
        if kind == "number":
            if before not in ("symbol", "close"):
                advice = "an amount follows an element or a bracket, an isotope is written [11B]"
                _fail(text, "syntax", at, token, advice)
            amount = _amount(text, token, at)
            part = {symbol: _EXACT.multiply(value, amount) for symbol, value in part.items()}
        else:
            token = "H" if token in _HYDROGEN else token
            if kind == "other" or (kind == "symbol" and token not in INDEX):
                _refuse(text, plain, at, token, before)
            _add(group, part)
            part = {}
            if kind == "symbol":
                part = {token: Decimal(1)}
            elif kind == "open":
                if len(open_brackets) == MAX_DEPTH:
                    _fail(text, "brackets", at, token, f"brackets may be nested {MAX_DEPTH} deep")
                open_brackets.append((at, group))
                group = {}
            else:
                if not open_brackets or _CLOSING[plain[open_brackets[-1][0]]] != token:
                    _fail(text, "brackets", at, token, "no such bracket is open here")
                if not group:
                    _fail(text, "brackets", at, token, "the brackets hold nothing")
                part, group = group, open_brackets.pop()[1]
        before = kind
    if open_brackets:
        at = open_brackets[-1][0]
        _fail(text, "brackets", at, plain[at], "this bracket is never closed")
    _add(group, part)
    if not group:
        raise FormulaError("empty", "empty: the formula has no element; give one such as 'LaNiAsO'")
    return group


def _plain(text: str) -> str:
    """The text in the grammar's own characters, one for one; isotopes without their mass numbers."""
    plain = _RAISED_DOT.sub(".", text)
    plain = _ISOTOPE.sub(lambda found: (found[1] or "").center(len(found[0])), plain)
    return plain.translate(_PLAIN)


def _fail(text: str, reason: str, at: int, what: str, advice: str) -> NoReturn:
    raise FormulaError(reason, f"{reason}: {what!r} at position {at + 1} of {text!r}; {advice}", at + 1)


def _add(group: dict[str, Decimal], part: Mapping[str, Decimal]) -> None:
    for symbol, amount in part.items():
        group[symbol] = _EXACT.add(group[symbol], amount) if symbol in group else amount


def _amount(text: str, token: str, at: int) -> Decimal:
    """The exact value of one written amount."""
    given = text[at : at + len(token)]
    if not _NUMBER.fullmatch(token):
        _fail(text, "syntax", at, given, "an amount is a plain decimal such as 2 or 1.85")
    if any(c in _SUBSCRIPTS for c in given) and any(c.isascii() and c.isdigit() for c in given):
        _fail(text, "syntax", at, given, "an amount is written in subscripts or in ordinary digits, not both")
    if len(token) > MAX_DIGITS:
        _fail(text, "amount out of bounds", at, given, f"an amount may have {MAX_DIGITS} characters")
    amount = Decimal(token)
    if amount == 0:
        _fail(text, "zero amount", at, given, "leave the element out")
    if not MIN_AMOUNT <= float(amount) <= MAX_AMOUNT:
        _fail(text, "amount out of bounds", at, given, _BOUNDS)
    return amount


def _refuse(text: str, plain: str, at: int, token: str, before: str) -> NoReturn:
    """Say what is wrong with a token that is neither an element nor anything else a formula may hold."""
    after = plain[at + 1 : at + 2]
    amount_expected = before in ("symbol", "close")
    definite = "write the amount as a number"
    if token[0].isupper() and token[0].isascii():
        if token[0] in INDEX and token[1] in _UNKNOWN_AMOUNTS:
            _fail(text, "undetermined amount", at + 1, token[1], definite)
        if token in _UNKNOWN_CAPITALS and before != "open":
            _fail(text, "undetermined amount", at, token, definite)
        _fail(text, "unknown element", at, token, "symbols are those of H to Og, such as 'Cu'")
    if _CHARGE.match(plain, at) and before != "open":
        _fail(
            text, "charge", at, text[at:].strip(), "a formula has neither charges nor open ends: leave it out"
        )
    if token in "+-±" and before != "open":
        if token == "-" and amount_expected and after and after in "0123456789.":
            _fail(text, "negative amount", at, text[at : at + 2], "amounts are positive")
        if not amount_expected or after.isalpha():
            _fail(text, "undetermined amount", at, text[at : at + 2], definite)
    if token in _UNKNOWN_AMOUNTS and before != "open":
        _fail(text, "undetermined amount", at, text[at], definite)
    if token.isalpha() and not token.isascii():
        called = unicodedata.name(token, "a letter").capitalize()
        _fail(
            text, "unknown element", at, text[at], f"that is {called}; type the letter of the Latin alphabet"
        )
    if token.isalpha() and before == "open":
        _fail(text, "unknown element", at, text[at], "a symbol starts with a capital, such as 'Cu'")
    _fail(text, "syntax", at, text[at], "a formula holds elements, amounts and brackets")


def _bounded(symbol: str, amount: float, where: str) -> float:
    """The amount itself, or FormulaError where it is not one; NaN and infinity are not."""
    if MIN_AMOUNT <= amount <= MAX_AMOUNT:
        return amount
    reason = "zero amount" if amount == 0 else "negative amount" if amount < 0 else "amount out of bounds"
    raise FormulaError(reason, f"{reason}: {symbol} has {amount!r} in {where}; {_BOUNDS}")


def _checked(amounts: Mapping[str, float]) -> dict[str, float]:
    if not amounts:
        raise FormulaError("empty", "empty: there is no element in these amounts")
    for symbol in amounts:
        if symbol not in INDEX:
            raise FormulaError("unknown element", f"unknown element: {symbol!r} is not one of H to Og")
    return {symbol: _bounded(symbol, float(amount), "these amounts") for symbol, amount in amounts.items()}


def fractions(amounts: Mapping[str, float]) -> NDArray[np.float64]:
    """Atomic fractions over the 118 elements, (118,), summing to 1. Raises FormulaError as `parse` does."""
    row = amounts_row(_checked(amounts))
    return np.asarray(row / row.sum())


def parse_amounts(formula: str) -> NDArray[np.float64]:
    """Atoms of each element as the formula is written, (118,). Raises FormulaError as `parse` does."""
    return amounts_row(parse(formula))


def amounts_row(amounts: Mapping[str, float]) -> NDArray[np.float64]:
    """Amounts by symbol as a row, (118,)."""
    row = np.zeros(N_ELEMENTS)
    row[[INDEX[symbol] for symbol in amounts]] = list(amounts.values())
    return row


def parse_fractions(formulas: Iterable[str]) -> NDArray[np.float64]:
    """Atomic fractions of many formulas, (N, 118). Raises FormulaError at the first that can't be read."""
    rows = [fractions(parse(formula)) for formula in formulas]
    return np.stack(rows) if rows else np.zeros((0, N_ELEMENTS))


def sparse_fractions(formulas: Sequence[str]) -> csr_matrix:
    """Atomic fractions (N, 118), sparse by rows, of formulas that `write` wrote. Raises KeyError."""
    parts = [_WRITTEN_PART.findall(text) for text in formulas]
    row = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    column = [INDEX[symbol] for part in parts for symbol, _ in part]
    amounts = np.array([float(amount or 1) for part in parts for _, amount in part])
    totals = np.bincount(row, weights=amounts, minlength=len(parts))
    return csr_matrix((amounts / totals[row], (row, column)), (len(parts), N_ELEMENTS))


def write(amounts: Mapping[str, float]) -> str:
    """The formula of these amounts: order kept, 1 left out, the rest in their shortest exact decimals.
    `parse(write(amounts)) == amounts` exactly, as long as the text fits `parse`'s length limit. Raises FormulaError
    for unknown elements and for amounts that are not between 1e-9 and 1e9.
    """
    # repr is the shortest; Decimal takes its exponent away.
    parts = {symbol: f"{Decimal(repr(n)):f}".removesuffix(".0") for symbol, n in _checked(amounts).items()}
    return "".join(symbol + ("" if text == "1" else text) for symbol, text in parts.items())


def write_row(amounts: NDArray[Any]) -> str:
    """The formula of amounts (118,), least electronegative first: "LaNiAsO"; "" for none. Raises as `write` does."""
    held = {SYMBOLS[z]: float(amounts[z]) for z in WRITING_ORDER if amounts[z] > 0}
    return write(held) if held else ""


def as_chemists_write(formula: str, base: str | None, nearest: str | None) -> str:
    """A formula in large whole numbers as one of the size of a relative: La37Sr3Cu20O80 near La1.85Sr0.15CuO4 is
    La1.85Sr0.15CuO4; with the elements in the order of its base where it holds at least two of them, others beside the
    element of the base that is nearest on Pettifor's scale. Fractional amounts stay. nearest: the nearest known
    composition.
    """
    amounts = parse(formula)
    if all(n == int(n) for n in amounts.values()):
        for relative in (nearest, base):
            if (
                relative is None
                or np.abs(fractions(amounts) - fractions(parse(relative))).sum() > _RELATED_L1
            ):
                continue
            divisor = _divisor(amounts, sum(parse(relative).values()))
            if divisor is not None:
                amounts = {symbol: round(n / divisor, 2) for symbol, n in amounts.items()}
                break
    own = list(parse(base)) if base else []
    if len({*own} & amounts.keys()) >= 2:
        table = properties()
        scale = table.values[:, table.names.index("mendeleev_number")]

        def place(symbol: str) -> float:
            if symbol in own:
                return own.index(symbol)
            beside = min(own, key=lambda each: abs(scale[INDEX[each]] - scale[INDEX[symbol]]))
            return own.index(beside) + 0.5

        amounts = {symbol: amounts[symbol] for symbol in sorted(amounts, key=place)}
    return write(amounts)


def _divisor(amounts: Mapping[str, float], total: float) -> float | None:
    """What whole amounts are divided by so that they add up to about `total`, none has more than two decimals and one
    at least is whole; None where nothing does.
    """
    every = {n / k for n in amounts.values() for k in range(1, 7)} | {1.0}
    good = []
    for divisor in every:
        scaled = [n / divisor for n in amounts.values()]
        whole = any(abs(n - round(n)) < 1e-9 for n in scaled)
        off = abs(math.log(sum(scaled) / total))
        if all(abs(n - round(n, 2)) < 1e-9 for n in scaled) and whole and off < 0.1:
            good.append((off, divisor))
    return min(good)[1] if good else None


def reduce_counts(counts: NDArray[Any]) -> NDArray[Any]:
    """Whole-number counts (..., 118) divided by their row's greatest common divisor; a row of zeros stays."""
    divisor = np.gcd.reduce(counts, axis=-1, keepdims=True)
    return counts // np.maximum(divisor, 1)


def common_multiple(numbers: Sequence[float], most: int) -> tuple[int, list[int]]:
    """The least number that makes all of these whole, and what they become; each as the nearest fraction with a
    denominator up to `most`.
    """
    exact = [Fraction(each).limit_denominator(most) for each in numbers]
    scale = math.lcm(*(each.denominator for each in exact))
    return scale, [int(each * scale) for each in exact]


def least_counts(total: int, fixed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Atoms that fixed amounts (118,) need at least in a formula of `total` atoms, (118,)."""
    return np.ceil(total * fixed - _WHOLE).astype(np.int64)


def feasible_totals(totals: Iterable[int], fixed: NDArray[np.float64], may_grow: bool) -> tuple[int, ...]:
    """The totals in which fixed amounts (118,) are whole atoms or, where they may grow, have room."""
    if may_grow:
        return tuple(n for n in totals if least_counts(n, fixed).sum() <= n)
    return tuple(n for n in totals if (np.abs(n * fixed - np.rint(n * fixed)) < _WHOLE).all())


def checked_amounts(
    amounts: NDArray[Any], *, whole: bool = False, empty: bool = False
) -> NDArray[np.float64]:
    """Atoms of each element in n formulas, (n, 118). Raises ValueError for another shape, for amounts that are not
    finite or negative, for a row of zeros, unless rows may be `empty`, and for fractions, if they must be `whole`.
    """
    amounts = np.asarray(amounts, dtype=np.float64)
    if amounts.ndim != 2 or amounts.shape[1] != N_ELEMENTS:
        raise ValueError(f"amounts have the shape {amounts.shape}; give (formulas, {N_ELEMENTS})")
    wrong = ~(np.isfinite(amounts) & (amounts >= 0) & (np.rint(amounts) == amounts if whole else True))
    if wrong.any():
        row, z = np.argwhere(wrong)[0]
        kind = "whole" if whole else "finite"
        given = f"{amounts[row, z]} of {SYMBOLS[z]} in row {row}"
        raise ValueError(f"amounts must be {kind} and not negative; there is {given}")
    if not empty and not (amounts > 0).any(axis=1).all():
        raise ValueError(f"row {int(np.argmin((amounts > 0).any(axis=1)))} of the amounts holds no atoms")
    return amounts
