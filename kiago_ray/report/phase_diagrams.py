"""Phase diagrams: the hull of two or three elements, and the section from one formula to another.

Both show phases with the energies of their source, and formulas that are no phases with predicted ones and 1σ. Every
height is held against the hull of the known phases, so one below 0 would be a new stable phase.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import ConvexHull

from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Ints
from kiago_ray.chemistry.formula import FormulaError, fractions, parse, parse_amounts
from kiago_ray.chemistry.series import coordinates, general_formula
from kiago_ray.data.names import read
from kiago_ray.errors import InputError
from kiago_ray.hull import ON_THE_HULL_EV_PER_ATOM, SAME, EnergyHull
from kiago_ray.report.plots import (
    BLUE,
    COLORS,
    GREY,
    SECTION_PLOT,
    VERMILION,
    Array,
    Plot,
    finish,
    label_points,
    new_figure,
    plain,
    png_of,
)

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

FORMULAS = 14  # of one diagram; more can't be told apart
POINTS = 101  # of a section, evenly along x
FARTHEST_EV_PER_ATOM = 0.2  # above the hull; beyond there is one colour
SERIES_LENGTH = 30  # a longer general formula is written as a mixture
MOST_NAMED = 14  # stretches of a section
_SUBSCRIPTS = str.maketrans("0123456789+-x", "₀₁₂₃₄₅₆₇₈₉₊₋ₓ")
_ROOT = np.sqrt(3) / 2
_STAR = {"marker": "*", "s": 170, "edgecolors": "black", "linewidths": 0.8, "zorder": 6}


def subscripted(formula: str) -> str:
    """A formula as chemists write it, La₁.₈₅Sr₀.₁₅CuO₄, in letters that any reader of an SVG file finds."""
    return plain(re.sub(r"[\d.]+(?![\d.]*\()", lambda amount: amount[0].translate(_SUBSCRIPTS), formula))


@dataclass(frozen=True)
class Diagram:
    """The phases of a chemical system of k elements, the elements first. fractions: (p, k). ef_ev_per_atom,
    above_ev_per_atom: (p,), the latter over the hull. facets: (f, k) phases that coexist.
    """

    elements: tuple[str, ...]
    names: tuple[str, ...]
    fractions: Floats
    ef_ev_per_atom: Floats
    above_ev_per_atom: Floats
    facets: Ints

    @property
    def stable(self) -> Any:
        """(p,): which phases are on the hull."""
        return self.above_ev_per_atom < ON_THE_HULL_EV_PER_ATOM


def drawn_elements(formulas: Sequence[str]) -> tuple[str, ...]:
    """The two or three elements of these formulas, in the order in which they occur; one that can't be read counts for
    nothing. Raises InputError for any other number, FormulaError where none can be read.
    """
    readable = list[dict[str, float]]()
    for formula in formulas:
        with suppress(FormulaError):
            readable.append(read(formula))
    if formulas and not readable:
        read(formulas[0])  # which says what is wrong with it
    elements = tuple(dict.fromkeys(symbol for amounts in readable for symbol in amounts))
    if not 2 <= len(elements) <= 3 or len(formulas) > FORMULAS:
        raise InputError(
            f"--plot: {len(formulas)} formulas of {len(elements)} elements; it draws up to {FORMULAS} formulas of two "
            "or three elements together, and --section draws from one formula to another in any elements"
        )
    return elements


def diagram_of(hull: EnergyHull, elements: Sequence[str]) -> Diagram:
    """The diagram of two or three elements."""
    columns = [INDEX[symbol] for symbol in elements]
    ends = np.eye(len(SYMBOLS))[columns]
    inside = hull.within(ends.sum(axis=0))
    x = np.concatenate([ends, hull.phases.fractions[inside].toarray()])
    ef = np.concatenate([np.zeros(len(elements)), hull.phases.ef_ev_per_atom[inside]])
    names = (*elements, *(hull.phases.formulas[at] for at in inside))
    above = hull.e_hull(x, ef)
    return Diagram(tuple(elements), names, x[:, columns], ef, above, lowest_facets(x[:, columns], ef))


def lowest_facets(fractions: Floats, ef_ev_per_atom: Floats) -> Ints:
    """The facets (f, k) of the lower convex hull of p phases (p, k) and their energies (p,), the elements at 0 among
    them. A point far above all turns what isn't the lower hull into facets of its own, as in pymatgen.
    """
    low = np.flatnonzero(ef_ev_per_atom <= 0)
    points = np.column_stack([fractions[low, 1:], ef_ev_per_atom[low]])
    top = np.append(points[:, :-1].mean(axis=0), 1.0)
    facets = ConvexHull(np.vstack([points, top])).simplices
    facets = low[facets[(facets < len(low)).all(axis=1)]]
    upright = np.abs(np.linalg.det(fractions[facets])) < SAME**2  # walls over the sides of a triangle
    return np.asarray(facets[~upright])


def height_text(above_ev_per_atom: float, std_ev_per_atom: float) -> str:
    """Such as "0.035 ± 0.020 eV/atom above the hull"."""
    if abs(above_ev_per_atom) < ON_THE_HULL_EV_PER_ATOM:
        return "on the hull"
    spread = "" if np.isnan(std_ev_per_atom) else f" ± {std_ev_per_atom:.3f}"
    side = "above" if above_ev_per_atom > 0 else "below"
    return f"{abs(above_ev_per_atom):.3f}{spread} eV/atom {side} the hull"


def diagram_plot(diagram: Diagram, rows: Sequence[Mapping[Any, Any]]) -> Figure:
    """A diagram with formulas, which are rows of `kiago hull`; one that has an error is left out."""
    rows = [row for row in rows if row["error"] is None]
    return (_binary if len(diagram.elements) == 2 else _ternary)(diagram, rows)


def _mark(axes: Any, place: int, row: Mapping[Any, Any], x: float, y: float) -> None:
    """A formula as a star, which the legend explains."""
    std = np.nan if row["e_hull_std_ev_per_atom"] is None else row["e_hull_std_ev_per_atom"]
    height = row["e_hull_ev_per_atom" if row["is_phase"] else "e_decomposition_ev_per_atom"]
    color, marker = COLORS[(1 + place) % len(COLORS)], "*P"[place // len(COLORS)]
    axes.scatter(
        x,
        y,
        **{**_STAR, "marker": marker},
        color=color,
        label=f"{subscripted(row['formula'])}: {height_text(height, std)}",
    )


def _binary(diagram: Diagram, rows: Sequence[Mapping[Any, Any]]) -> Figure:
    """E_f over the share of the second element, with the hull as a line."""
    figure, (axes,) = new_figure(7.0, 4.8)
    x, ef, stable = diagram.fractions[:, 1], diagram.ef_ev_per_atom, diagram.stable
    line = np.unique(diagram.facets)
    line = line[np.argsort(x[line])]
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    axes.plot(x[line], ef[line], color=BLUE, linewidth=1.4, zorder=2)
    places = [fractions(parse(row["formula"]))[INDEX[diagram.elements[1]]] for row in rows]
    shown = [*ef[stable], *(row["ef_ev_per_atom"] for row in rows)]
    top = max(max(shown), 0.3 * max(-min(shown), 0.1))
    hidden = int((ef > top).sum())
    name = f"phases above the hull ({(~stable).sum()}" + (f"; {hidden} beyond the axis)" if hidden else ")")
    axes.scatter(x[stable], ef[stable], s=38, c=BLUE, zorder=4, label=f"phases on the hull ({stable.sum()})")
    axes.scatter(x[~stable], ef[~stable], s=20, facecolors="white", edgecolors=GREY, zorder=3, label=name)
    for place, (row, at) in enumerate(zip(rows, places, strict=True)):
        std = row["e_hull_std_ev_per_atom"]
        if std is not None:
            axes.errorbar(at, row["ef_ev_per_atom"], std, color="black", capsize=3, linewidth=1, zorder=5)
        _mark(axes, place, row, at, row["ef_ev_per_atom"])
    low = min(shown)
    axes.set(xlim=(-0.03, 1.03), ylim=(low - 0.16 * (top - low), top + 0.08 * (top - low)))
    first, second = diagram.elements
    axes.set(xlabel=f"x in {first}₁₋ₓ{second}ₓ (share of the atoms)", ylabel="formation energy (eV/atom)")
    finish(figure, axes, f"{first}–{second}", size=9)
    between = np.linspace(0, 1, 200)
    clear = np.column_stack([between, np.interp(between, x[line], ef[line])])
    every = np.vstack([clear, np.column_stack([x, ef]), _places(places, [r["ef_ev_per_atom"] for r in rows])])
    texts = [subscripted(diagram.names[at]) for at in np.flatnonzero(stable)]
    label_points(axes, np.column_stack([x, ef])[stable], texts, every)
    return figure


def _places(x: Any, y: Any) -> Array:
    """Points (n, 2) of their coordinates (n,) each."""
    return np.column_stack([x, y]).reshape(-1, 2)


def _ternary(diagram: Diagram, rows: Sequence[Mapping[Any, Any]]) -> Figure:
    """A triangle with the facets of the hull; what lies above it is coloured by how far."""
    figure, (axes,) = new_figure(7.4, 6.6)
    axes.set_axis_off()
    axes.set_aspect("equal")
    ticks = _draw_shares(axes)
    edges = np.unique(
        np.sort(np.concatenate([diagram.facets[:, [a, b]] for a, b in ((0, 1), (1, 2), (0, 2))])), axis=0
    )
    points, stable = _corners(diagram.fractions), diagram.stable
    for edge in edges:
        axes.plot(*points[edge].T, color=BLUE, linewidth=1.1, zorder=2)
    above = diagram.above_ev_per_atom[~stable]
    axes.scatter(*points[stable].T, s=42, c=BLUE, zorder=4, label=f"phases on the hull ({stable.sum()})")
    shade = axes.scatter(
        *points[~stable].T,
        s=20,
        c=above,
        cmap="YlOrRd_r",
        vmin=0,
        vmax=FARTHEST_EV_PER_ATOM,
        edgecolors="#555555",
        linewidths=0.4,
        zorder=3,
        label=f"phases above the hull ({len(above)})",
    )
    if len(above):
        bar = figure.colorbar(shade, ax=axes, pad=0.02, shrink=0.55, extend="max")
        bar.set_label("energy above the hull (eV/atom)", fontsize=9)
    own = np.zeros((0, 2))
    columns = [INDEX[symbol] for symbol in diagram.elements]
    for place, row in enumerate(rows):
        at = _corners(fractions(parse(row["formula"]))[None, columns])
        own = np.vstack([own, at])
        _mark(axes, place, row, *at[0])
    for symbol, (x, y), (dx, dy) in zip(
        diagram.elements, _corners(np.eye(3)), ((-1, -0.6), (1, -0.6), (0, 1)), strict=True
    ):
        axes.annotate(
            symbol,
            (x, y),
            (12 * dx, 12 * dy),
            textcoords="offset points",
            fontsize=13,
            weight="bold",
            ha="center",
            va="center",
        )
    axes.margins(0.08)
    finish(figure, axes, f"{'–'.join(diagram.elements)} (at.%)", columns=2, size=9)
    between = np.linspace(0, 1, 60)[:, None]
    lines = [(1 - between) * points[a] + between * points[b] for a, b in edges]
    named = np.flatnonzero(stable)[3:]
    texts = [subscripted(diagram.names[at]) for at in named]
    label_points(axes, points[named], texts, np.vstack([*lines, points, own, ticks]))
    return figure


def _draw_shares(axes: Any) -> Array:
    """Lines of equal atomic per cent, each with its number where it leaves the triangle; where these stand (n, 2)."""
    places = []
    for share in (0.2, 0.4, 0.6, 0.8):
        for turn in range(3):
            ends = np.roll([(share, 1 - share, 0), (share, 0, 1 - share)], turn, axis=1)
            start, end = _corners(ends)
            axes.plot(*_corners(ends).T, color="#e6e6e6", linewidth=0.6, zorder=1)
            places.append(end + 0.035 * (end - start) / np.hypot(*(end - start)))
            style = {"fontsize": 7.5, "color": "#777777", "ha": "center", "va": "center"}
            axes.text(*places[-1], f"{100 * share:.0f}", **style)
    return np.array(places)


def _corners(shares: Floats) -> Floats:
    """Where shares of three elements (n, 3) stand in a triangle of side 1, (n, 2)."""
    return np.column_stack([shares[:, 1] + shares[:, 2] / 2, _ROOT * shares[:, 2]])


@dataclass(frozen=True)
class Section:
    """From one formula to another: n compositions in the order of x, and their height over the hull of the phases.

    series: the compositions in general, a function of x. x, above_ev_per_atom, std_ev_per_atom: (n,); σ is NaN where
    the energy is known. known: the phases among them, place → name. stretches: from x to x, what falls apart there.
    """

    ends: tuple[str, str]
    series: str
    x: Floats
    above_ev_per_atom: Floats
    std_ev_per_atom: Floats
    known: Mapping[int, str]
    stretches: tuple[tuple[float, float, frozenset[str]], ...]


def check_section(formulas: Sequence[str]) -> None:
    """Raise InputError where these aren't two compositions, FormulaError."""
    if len(formulas) != 2:
        raise InputError(f"--section: {len(formulas)} formulas; give two, where it begins and where it ends")
    rows = [fractions(read(formula)) for formula in formulas]
    if np.abs(rows[0] - rows[1]).max() <= SAME:
        raise InputError(f"--section: {' and '.join(formulas)} are one composition; give two")


def section_of(hull: EnergyHull, first: str, second: str) -> Section:
    """The section from one formula to another. Raises FormulaError, InputError where it has no energies or extent."""
    check_section([first, second])
    a, b = parse_amounts(first), parse_amounts(second)
    names = _phases_between(hull, a, b)
    share = np.unique(np.concatenate([np.linspace(0, 1, POINTS), list(names)]).round(9))
    rows = (1 - share)[:, None] * a + share[:, None] * b
    rows /= rows.sum(axis=1, keepdims=True)
    ef, std = hull.energies(rows)
    if np.isnan(ef).any():
        raise InputError(f"--section: {hull.no_energy(rows[np.isnan(ef)][0])}; give other formulas")
    places = hull.places(rows, ef)
    above = [
        each.e_hull_ev_per_atom if each.is_phase else each.e_decomposition_ev_per_atom for each in places
    ]
    series, scale = _series(first, second)
    found = list[tuple[float, float, frozenset[str]]]()
    for x, place in compress(zip((share * scale).tolist(), places, strict=True), ~np.isnan(std)):
        phases = frozenset(name for name, _ in place.decomposition)
        if found and (phases <= found[-1][2] or found[-1][2] <= phases):
            found[-1] = (found[-1][0], x, phases | found[-1][2])
        else:
            found.append((x, x, phases))
    meet = [(left[1] + right[0]) / 2 for left, right in pairwise(found)]
    stretches = tuple(zip([0.0, *meet], [*meet, scale], (each[2] for each in found), strict=True))
    known = {int(np.abs(share - at).argmin()): name for at, name in names.items()}
    known |= {at: name for at, name in ((0, first), (len(share) - 1, second)) if np.isnan(std[at])}
    return Section((first, second), series, share * scale, np.array(above), std, known, stretches)


def _phases_between(hull: EnergyHull, a: Floats, b: Floats) -> dict[float, str]:
    """The phases on the line between amounts a and b (118,): share of b → name."""
    inside = hull.within(a + b)
    x, off = coordinates(hull.phases.fractions[inside].toarray(), a, (b - a)[None])
    on = (off <= SAME) & (np.abs(x[:, 0] - 0.5) <= 0.5 + SAME)
    return {float(x[at, 0]): hull.phases.formulas[inside[at]] for at in np.flatnonzero(on)}


def _series(first: str, second: str) -> tuple[str, float]:
    """The general formula of a section, such as La₂₋ₓSrₓCuO₄, and x at its end."""
    a, b = parse(first), parse(second)
    change = {symbol: b.get(symbol, 0) - a.get(symbol, 0) for symbol in a | b}
    order = list(a)
    for symbol in (each for each in b if each not in a):
        partner = next((each for each in a if abs(change[each] + change[symbol]) < SAME), order[-1])
        order.insert(order.index(partner) + 1, symbol)
    sizes = {round(abs(value), 6) for value in change.values() if value}
    scale = sizes.pop() if len(sizes) == 1 else 1.0
    slopes = {symbol: value / scale for symbol, value in change.items()}
    text = general_formula(order, a, [slopes], lambda amount: amount.translate(_SUBSCRIPTS))
    if len(text) > SERIES_LENGTH:
        return f"(1 − x) {subscripted(first)} + x {subscripted(second)}", 1.0
    return text, scale


def section_plot(section: Section) -> Figure:
    """Height over the hull along a section, with 1σ; stretches by number, and below what falls apart in each."""
    figure, (axes,) = new_figure(7.2, 4.2 + 0.19 * min(len(section.stretches), MOST_NAMED))
    x, above, std = section.x, section.above_ev_per_atom, section.std_ev_per_atom
    guess, known = ~np.isnan(std), sorted(section.known)
    axes.axhline(0, color="black", linewidth=0.9, zorder=2)
    band = {"color": BLUE, "alpha": 0.2, "linewidth": 0}
    axes.fill_between(x[guess], (above - std)[guess], (above + std)[guess], **band)
    axes.plot(x[guess], above[guess], color=BLUE, linewidth=1.8, zorder=3, label="predicted, with 1σ")
    points = {"s": 46, "c": VERMILION, "edgecolors": "black", "linewidths": 0.7, "zorder": 5}
    axes.scatter(x[known], above[known], label="known, by its source's energy", **points)
    ends = dict(zip((0, len(x) - 1), section.ends, strict=True))
    new = [at for at in ends if guess[at]]
    axes.errorbar(x[new], above[new], std[new], color="black", capsize=3, linewidth=1, linestyle="", zorder=4)
    axes.scatter(x[new], above[new], color=BLUE, **_STAR)
    low = min(np.nanmin([above - std, above]), -0.01)
    high = max(np.nanmax([above + std, above]), 0.02)
    room = high - low
    axes.set(xlim=(x[0] - 0.02 * x[-1], 1.02 * x[-1]), ylim=(low - 0.2 * room, high + 0.25 * room))
    axes.set(xlabel=f"x in {section.series}", ylabel="energy above the hull (eV/atom)")
    _name_stretches(axes, section)
    finish(figure, axes, " – ".join(map(subscripted, section.ends)), columns=1, size=8.5)
    named = {**section.known, **ends}
    bars = [_places(x[new], above[new] + side * std[new]) for side in (-1, 1)]
    clear = np.vstack([_places(x, above), _places(x, np.zeros(len(x))), *bars])
    places = _places(x[[*named]], above[[*named]])
    label_points(axes, places, [*map(subscripted, named.values())], clear)
    return figure


def _name_stretches(axes: Any, section: Section) -> None:
    """Bands with numbers, and a line of the legend for each; what is beyond MOST_NAMED has a number alone."""
    for number, (left, right, phases) in enumerate(section.stretches, start=1):
        names = " + ".join(map(subscripted, sorted(phases)))
        label = f"{number}, x = {left:.2f} to {right:.2f}: {names}" if number <= MOST_NAMED else None
        color = COLORS[(number - 1) % len(COLORS)]
        axes.axvspan(left, right, ymin=0.93, color=color, alpha=0.35, linewidth=0, label=label)
        place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "center"}
        axes.text((left + right) / 2, 0.965, f"{number}", fontsize=8.5, **place)


def section_plots(hull: EnergyHull | None, base: str | None, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The section from the base of a search to its first proposal, the first of `rows` that passed; none without a
    hull, a base or a proposal, or where the ensemble doesn't know their elements.
    """
    first = next((row["formula"] for row in rows if row["passed"]), None)
    if hull is None or base is None or first is None:
        return []
    with suppress(InputError):  # one composition, or an element without energies
        figure = section_plot(section_of(hull, base, first))
        about = f"Energy above the hull from {base} to the first proposal, {first}, and what falls apart into what."
        return [Plot(SECTION_PLOT, about, png_of(figure))]
    return []
