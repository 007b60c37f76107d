"""From what a composition can be made in one solid-state reaction: precursors, their masses, the balanced reaction.

A reaction is x ≥ 0 with Σ x_i A_i = b, of precursors and gases i with their atoms A_i by element and the compound's
atoms b. Of all such mixtures the one of the least Σ rank_i · x_i · (cations of i) is taken, a linear program, so that
each precursor's rank in the table says which is weighed first. In `air` oxygen comes and goes, and CO2, water and NH3
leave; in a `closed` vessel without air nothing leaves, and hydrogen and nitrogen may be let in. It is a balance of
atoms and says nothing of temperatures, times, or whether the phase forms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from kiago_ray.chemistry.balance import HARD, SOFT, likeliest_balance
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, properties
from kiago_ray.chemistry.formula import amounts_row, common_multiple, parse
from kiago_ray.errors import InputError

Route = Literal["air", "closed"]
ROUTES: Mapping[Route, str] = {"air": "fired in air or oxygen", "closed": "in a closed vessel without air"}
_GASES: Mapping[Route, tuple[tuple[str, int], ...]] = {  # formula, +1 taken up or −1 given off
    "air": (("O2", 1), ("O2", -1), ("CO2", -1), ("H2O", 1), ("H2O", -1), ("NH3", -1)),
    "closed": (("H2", 1), ("N2", 1)),
}
_GASES_DO = {
    ("O2", 1): "takes up oxygen: fire or anneal it in flowing oxygen",
    ("O2", -1): "oxygen has to leave: anneal it in argon or vacuum",
    ("H2O", 1): "takes up water",
    ("H2", 1): "takes up hydrogen, under pressure",
    ("N2", 1): "takes up nitrogen: heat it in nitrogen or ammonia",
}
_LEAVE = ("C", "H", "N")  # what a precursor may bring in air though the compound lacks it
_GAS_COST = 0.01
_REDUCED = 0.1  # of the oxygen: if more has to leave, metals are mixed in instead
_TRACE = 1e-9  # moles to one of the compound
_FEW_WHOLE, _MOST_WHOLE = 30, 2_000  # numbers of a reaction: preferred to clean decimals, and written at all
_DECIMALS = 4
_UNITS = {
    "mg": (1e-3, False),
    "g": (1.0, False),
    "kg": (1e3, False),
    "mmol": (1e-3, True),
    "mol": (1.0, True),
}


class NoReactionError(InputError):
    """A composition that these precursors can't make. The message says why, in one line."""


@dataclass(frozen=True)
class Precursor:
    """What is weighed. route: where it can be used. rank: 1 is taken first. note: how it is handled."""

    formula: str
    name: str
    route: Literal["air", "closed", "any"]
    rank: float
    note: str = ""

    @property
    def is_element(self) -> bool:
        """Whether it is an element."""
        return len(parse(self.formula)) == 1


Part = Precursor | tuple[str, int]
"""A precursor, or a gas that comes (+1) or goes (−1)."""
Moles = Mapping[Part, float]
"""To one of the compound."""


@dataclass(frozen=True)
class Hazard:
    """What is dangerous about elements: in any compound, or weighed as the `element` alone."""

    elements: tuple[str, ...]
    form: Literal["any", "element"]
    text: str


@dataclass(frozen=True)
class Weighed:
    """A precursor of a batch. moles: to one of the compound as it is written."""

    precursor: Precursor
    moles: float
    grams: float


@dataclass(frozen=True)
class Recipe:
    """How a batch of `grams` is weighed. reaction: balanced, such as Mg + 2 B → MgB2. remark: what gases do."""

    formula: str
    route: Route
    grams: float
    weighed: tuple[Weighed, ...]
    reaction: str
    remark: str


@dataclass(frozen=True)
class Batch:
    """How much is to be made: grams, or moles of the formula as it is written."""

    amount: float
    in_moles: bool = False

    @classmethod
    def read(cls, text: str) -> Batch:
        """Such as 5g, 500 mg or 0.02mol. Raises InputError."""
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]+)\s*", text)
        if found is None or found[2] not in _UNITS or not 0 < float(found[1]) < 1e9:
            raise InputError(f"--batch: {text[:40]!r} is no amount; write such as 5g, 500mg or 0.02mol")
        factor, in_moles = _UNITS[found[2]]
        return cls(float(found[1]) * factor, in_moles)

    def grams(self, molar_mass: float) -> float:
        """Its mass in g, of a compound of this molar mass in g/mol."""
        return self.amount * molar_mass if self.in_moles else self.amount


def molar_mass(formula: str) -> float:
    """Mass of a mole of the formula as it is written, in g, by the standard atomic weights that pymatgen tabulates."""
    table = properties()
    weights = table.values[:, table.names.index("atomic_mass_u")]
    return sum(amount * float(weights[INDEX[symbol]]) for symbol, amount in parse(formula).items())


def recipe_of(formula: str, batch: Batch, precursors: Sequence[Precursor]) -> Recipe:
    """How a batch of the formula is weighed from these precursors. Raises NoReactionError, and FormulaError for what
    is no formula.
    """
    found = {}
    amounts = parse(formula)
    routes: tuple[Route, ...] = ("air", "closed") if _stands_air(amounts) else ("closed",)
    for route in routes:
        moles = _solved(amounts, [each for each in precursors if each.route in (route, "any")], route)
        if moles is not None:
            found[route] = moles
            if 2 * moles.get(("O2", -1), 0.0) <= _REDUCED * amounts.get("O", 0.0):
                break
    if not found:
        raise NoReactionError(_missing(amounts, precursors))
    route, moles = list(found.items())[-1]
    mass = molar_mass(formula)
    grams = batch.grams(mass)
    weighed = tuple(
        Weighed(each, n, grams * n * molar_mass(each.formula) / mass)
        for each, n in moles.items()
        if isinstance(each, Precursor)
    )
    remark = "; ".join(text for gas, text in _GASES_DO.items() if gas in moles)
    return Recipe(formula, route, grams, weighed, _reaction(formula, moles), remark)


def _stands_air(amounts: Mapping[str, float]) -> bool:
    """Whether it is an oxide that stands hot air: its anions are oxygen and halogens alone."""
    if "O" not in amounts:
        return False
    balance = likeliest_balance(amounts_row(amounts)[None])
    states = {SYMBOLS[z]: pairs for z, pairs in balance.assignments[0].items()}
    if balance.metallic[0]:
        return False
    if not states:
        return not {*SOFT, "H"} & amounts.keys()
    return all(symbol in HARD for symbol, pairs in states.items() if any(state < 0 for state, _ in pairs))


def _solved(amounts: Mapping[str, float], table: Sequence[Precursor], route: Route) -> Moles | None:
    """The cheapest mixture that balances, in the order of the compound's elements; None where there is none."""
    may_hold = {*amounts, *(_LEAVE if route == "air" else ())}
    usable = [each for each in table if set(parse(each.formula)) <= may_hold]
    if not usable:
        return None
    parts: list[Part] = [*usable, *_GASES[route]]
    columns = [_atoms(each) for each in parts]
    costs = [
        each.rank * _cations(each.formula) if isinstance(each, Precursor) else _GAS_COST for each in parts
    ]
    target, matrix = amounts_row(amounts), np.stack(columns, axis=1)
    held = (target > 0) | (matrix != 0).any(axis=1)
    solution = linprog(costs, A_eq=matrix[held], b_eq=target[held], bounds=(0, None), method="highs-ds")
    if not solution.success:
        return None
    used = np.flatnonzero(solution.x > _TRACE)
    exact = np.linalg.lstsq(matrix[:, used], target, rcond=None)[0]  # beyond the program's tolerance
    if (exact <= 0).any() or not np.allclose(matrix[:, used] @ exact, target, atol=_TRACE):
        return None
    order = list(amounts)

    def place(part: Part) -> int:
        held = parse(part.formula) if isinstance(part, Precursor) else {}
        return min((order.index(symbol) for symbol in held if symbol in order), default=len(order))

    found = [(parts[at], float(n)) for at, n in zip(used.tolist(), exact, strict=True)]
    return dict(sorted(found, key=lambda each: place(each[0])))


def _atoms(part: Part) -> Floats:
    if isinstance(part, Precursor):
        return amounts_row(parse(part.formula))
    formula, sign = part
    return sign * amounts_row(parse(formula))


def _cations(formula: str) -> float:
    """What a precursor is paid for by: its atoms that aren't anions or leave; all of an element's."""
    amounts = parse(formula)
    own = sum(n for symbol, n in amounts.items() if symbol not in (*HARD, *_LEAVE))
    return own or sum(amounts.values())


def _missing(amounts: Mapping[str, float], precursors: Sequence[Precursor]) -> str:
    """Why there is no reaction."""
    held = {symbol for each in precursors for symbol in parse(each.formula)} | {"O", "H", "N"}
    absent = [symbol for symbol in amounts if symbol not in held]
    if absent:
        return f"no precursor of {', '.join(absent)} in the table; add one with --precursors"
    return "no mixture of the table's precursors balances it; add what is missing with --precursors"


def _reaction(formula: str, moles: Moles) -> str:
    """In whole numbers where these are small, else with up to four decimals to one of the compound, or in large whole
    numbers where those aren't exact.
    """
    sides: dict[bool, list[tuple[str, float]]] = {True: [], False: [(formula, 1.0)]}
    for part, n in moles.items():
        name, sign = (part.formula, 1) if isinstance(part, Precursor) else part
        sides[sign > 0].append((name, n))
    numbers = [n for side in sides.values() for _, n in side]
    scale, whole = common_multiple(numbers, _MOST_WHOLE)
    exact = all(abs(n * scale - each) <= 1e-6 * scale for n, each in zip(numbers, whole, strict=True))
    clean = all(abs(n - round(n, _DECIMALS)) <= _TRACE for n in numbers)
    if not exact or max(whole) > (_FEW_WHOLE if clean else _MOST_WHOLE):
        scale = 1

    def term(name: str, n: float) -> str:
        number = f"{n * scale:.{_DECIMALS}f}".rstrip("0").rstrip(".")
        return name if number == "1" else f"{number} {name}"

    left, right = (" + ".join(term(*each) for each in sides[side]) for side in (True, False))
    return f"{left} → {right}"


def hazards_of(formula: str, recipe: Recipe | None, hazards: Sequence[Hazard]) -> tuple[str, ...]:
    """What is dangerous about making it, a text for each hazard, with the elements that it is of."""
    held = set(parse(formula))
    pure = (
        {each.precursor.formula for each in recipe.weighed if each.precursor.is_element} if recipe else set()
    )
    found = []
    for hazard in hazards:
        of = [symbol for symbol in hazard.elements if symbol in (held if hazard.form == "any" else pure)]
        if of:
            found.append(f"{', '.join(of)}: {hazard.text}")
    return tuple(found)
