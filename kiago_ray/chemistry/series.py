"""Doping series: a base whose sites give atoms to others or lose them, x of them a formula unit; and what lies on one.

A series has one letter, x, or two, x and y, whose points are a map: La2-xSrxCuO4, YBa2Cu3O7-x, La1-xCexFeAsO1-yFy. All
amounts are atoms of the base's formula as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import product

import numpy as np

from kiago_ray.chemistry.elements import INDEX, Floats, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, MAX_AMOUNT, amounts_row, parse, write
from kiago_ray.errors import InputError

VACANT = "vacant"
"""What comes in where atoms leave a site empty."""
LETTERS = "xy"
MAX_POINTS = 10_000  # of all series of one request
MAX_SERIES = 24
_FORM = "write from:to:step such as 0:0.3:0.01, or amounts such as 0.05,0.1"
_LEAST = 10.0**-AMOUNT_DECIMALS  # atoms
_OFF_LINE = 2e-4  # L1 distance from a series that rounding makes
_NEAR = 0.01  # atoms beyond either end that still count as the end

Change = tuple[str | Sequence[str], str | Sequence[str], str | Sequence[float]]
"""Sites that change, each alone; what comes in there, one at a time, or VACANT; and the amounts x in atoms."""


class SeriesError(InputError):
    """No series of this base. The message names the value and the right form."""

    status = 422


@dataclass(frozen=True)
class Doping:
    """Of each formula unit x atoms of the site give way to as many of the dopant, or leave where that is VACANT."""

    site: str
    dopant: str
    x: tuple[float, ...]

    @property
    def slope(self) -> dict[str, float]:
        """Atoms by element that come in with each x."""
        return {self.site: -1.0} | ({} if self.dopant == VACANT else {self.dopant: 1.0})


@dataclass(frozen=True)
class Series:
    """base: atoms by element, in the order of the formula. dopings: one, or two for a map."""

    base: Mapping[str, float]
    dopings: tuple[Doping, ...]

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """All that occur, dopants behind their sites."""
        order = list(self.base)
        for doping in reversed(self.dopings):  # so that the first stands first where both are on one site
            if doping.dopant not in (*order, VACANT):
                order.insert(order.index(doping.site) + 1, doping.dopant)
        return tuple(order)

    @property
    def name(self) -> str:
        """Such as La2-xSrxCuO4."""
        return self.written(str)

    def written(self, form: Callable[[str], str]) -> str:
        """The name with its amounts in another form."""
        return general_formula(self.elements, self.base, [each.slope for each in self.dopings], form)

    def formula(self, x: Sequence[float]) -> str:
        """The composition at x, one amount a doping."""
        atoms = {symbol: self.base.get(symbol, 0.0) for symbol in self.elements}
        for doping, amount in zip(self.dopings, x, strict=True):
            for symbol, slope in doping.slope.items():
                atoms[symbol] = round(atoms[symbol] + slope * amount, 9)
        return write({symbol: amount for symbol, amount in atoms.items() if amount >= _LEAST / 2})

    def points(self) -> list[tuple[float, ...]]:
        """The amounts x of each composition, without those that would take more from a site than it has."""

        def there(x: tuple[float, ...]) -> bool:
            taken = dict.fromkeys(self.base, 0.0)
            for doping, amount in zip(self.dopings, x, strict=True):
                taken[doping.site] += amount
            return all(taken[symbol] <= amount + _LEAST / 2 for symbol, amount in self.base.items())

        return [x for x in product(*(each.x for each in self.dopings)) if there(x)]

    def places(self, fractions: Floats) -> tuple[Mask, Floats]:
        """Which of fractions (m, 118) are compositions of the series between its ends, (m,), and the x of each, (m, 1
        or 2).
        """
        slopes = np.stack([amounts_row(each.slope) for each in self.dopings])
        x, off = coordinates(fractions, amounts_row(self.base), slopes)
        low, high = (np.array([end(each.x) for each in self.dopings]) for end in (min, max))
        with np.errstate(invalid="ignore"):
            on = (off < _OFF_LINE) & ((x > low - _NEAR) & (x < high + _NEAR)).all(axis=1)
        held = np.zeros(fractions.shape[1], dtype=np.bool_)
        held[[INDEX[symbol] for symbol in self.elements]] = True
        return on & ~(fractions[:, ~held] > 0).any(axis=1), x.clip(low, high)


def coordinates(fractions: Floats, base: Floats, slopes: Floats) -> tuple[Floats, Floats]:
    """Where fractions (m, 118) lie on amounts base + Σ xⱼ·slopesⱼ, of (118,) and (k, 118): x (m, k), by least squares,
    and the L1 distance (m,) from there, infinite on the other side of the origin.
    """
    span = np.vstack([base, slopes])
    parts = fractions @ np.linalg.pinv(span)
    off = np.abs(fractions - parts @ span).sum(axis=1)
    scale = np.where(parts[:, :1] > 0, parts[:, :1], np.nan)
    return parts[:, 1:] / scale, np.where(np.isnan(scale[:, 0]), np.inf, off)


def general_formula(
    elements: Iterable[str],
    base: Mapping[str, float],
    slopes: Sequence[Mapping[str, float]],
    form: Callable[[str], str] = str,
) -> str:
    """The formula of base + Σ xⱼ·slopesⱼ with letters, La2-xSrxCuO4; `form` writes an amount."""
    text = ""
    for symbol in elements:
        changes = [(letter, slope.get(symbol, 0.0)) for letter, slope in zip(LETTERS, slopes, strict=False)]
        changes = [(letter, change) for letter, change in changes if change]
        amount = base.get(symbol, 0.0)
        written = f"{amount:g}" if amount and (changes or amount != 1) else ""
        for letter, change in changes:
            size = "" if abs(abs(change) - 1) < 1e-6 else f"{abs(change):.3g}"
            written += ("-" if change < 0 else "+" if written else "") + size + letter
        text += symbol + form(written)
    return text


def series_of(formula: str, changes: Sequence[Change]) -> tuple[Series, ...]:
    """All series of a base: of each of the one or two changes one site and one dopant, in every combination. Raises
    FormulaError, and SeriesError, which names the value, for what is no change of this base, or too much.
    """
    base = parse(formula)
    if not 1 <= len(changes) <= len(LETTERS):
        raise SeriesError(f"site: {len(changes)} changes at once; give one for a curve or two for a map")
    axes = [_dopings(formula, base, *change) for change in changes]
    if len(axes) > 1 and any(len(each[0].x) == 1 for each in axes):
        raise SeriesError(
            "x: a map needs at least two amounts of each change; write the one amount into the formula"
        )
    found = tuple(
        Series(base, each) for each in product(*axes) if len({(d.site, d.dopant) for d in each}) == len(each)
    )
    if not found:
        raise SeriesError("with: both changes are the same; give another site or dopant for one of them")
    points = sum(len(each.points()) for each in found) if len(found) <= MAX_SERIES else 0
    if len(found) > MAX_SERIES or points > MAX_POINTS:
        many = f"{points:,} compositions are more than {MAX_POINTS:,}" if points else f"{len(found)} series"
        raise SeriesError(
            f"x: {many} at once; take a larger step, or fewer than {MAX_SERIES} sites and dopants"
        )
    return found


def _dopings(
    formula: str,
    base: Mapping[str, float],
    site: str | Sequence[str],
    dopants: str | Sequence[str],
    x: str | Sequence[float],
) -> list[Doping]:
    amounts, names = amounts_of(x), ", ".join(base)
    sites, coming = (_names(each, of) for each, of in ((site, "site"), (dopants, "with")))
    for each in sites:
        if each not in base:
            raise SeriesError(f"site: {each!r} is not in {formula}; name one of {names}")
        if max(amounts) > base[each] + _LEAST / 2:
            raise SeriesError(
                f"x: {max(amounts):g} is more {each} than {formula} has; x counts atoms of the formula as written, so "
                f"take at most {base[each]:g}"
            )
    for each in coming:
        if each not in INDEX and each != VACANT:
            raise SeriesError(f"with: {each!r} is no element; write symbols such as Sr,Ba, or {VACANT}")
        if each in sites:
            raise SeriesError(f"with: {each} on the site of {each} changes nothing; name another element")
        if each == VACANT and len(base) == 1:
            raise SeriesError(
                f"with: {VACANT} places change nothing in {formula}, which is one element; name a dopant"
            )
    return [Doping(at, dopant, amounts) for at in sites for dopant in coming]


def _names(given: str | Sequence[str], of: str) -> list[str]:
    names = [part.strip() for part in (given.split(",") if isinstance(given, str) else given)]
    twice = next((each for each in names if names.count(each) > 1), None)
    if not all(names) or not names:
        raise SeriesError(f"{of}: {given!r} leaves a name out; write such as La or Sr,Ba")
    if twice:
        raise SeriesError(f"{of}: {twice} is named twice; name it once")
    return names


def amounts_of(x: str | Sequence[float]) -> tuple[float, ...]:
    """The amounts that a text names, from:to:step with both ends or one by one, rising. Raises SeriesError."""
    given = x if isinstance(x, str) else ",".join(f"{float(each):.9g}" for each in x)
    try:
        numbers = [Decimal(part.strip()) for part in given.replace(":", ",").split(",")]
    except InvalidOperation:
        numbers = []
    bounded = all(abs(float(each)) <= MAX_AMOUNT for each in numbers)  # NaN is not
    if not numbers or not bounded or given.count(":") not in (0, 2):
        raise SeriesError(f"x: {given[:80]!r} can't be read; {_FORM}")
    if ":" in given:
        if len(numbers) != 3:
            raise SeriesError(f"x: {given[:80]!r} mixes both forms; {_FORM}")
        start, stop, step = numbers
        if step < Decimal(1).scaleb(-AMOUNT_DECIMALS) or stop < start:
            wrong = f"a step of {step}" if step <= 0 or stop >= start else f"{stop} below {start}"
            raise SeriesError(f"x: {given!r} has {wrong}; {_FORM}, with a step of at least {_LEAST:g}")
        if (stop - start) / step >= MAX_POINTS:
            raise SeriesError(f"x: {given!r} is more than {MAX_POINTS:,} amounts; take a larger step")
        numbers = [start + at * step for at in range(int((stop - start) / step) + 1)]
    amounts = sorted({float(each) for each in numbers})
    if amounts[0] < 0 or any(abs(each - round(each, AMOUNT_DECIMALS)) > 1e-12 for each in amounts):
        raise SeriesError(
            f"x: {given[:80]!r} holds amounts below 0 or of more than {AMOUNT_DECIMALS} decimals; {_FORM}"
        )
    return tuple(amounts)
