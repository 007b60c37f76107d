"""Scans for a person: where no model can be right, curves and maps as figures and in characters, and as JSON.

In characters a series has a letter, small where T_c is predicted and large where it was measured; no colour is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.chemistry.balance import HARDLY_DOPED, hardly_doped
from kiago_ray.chemistry.elements import Floats
from kiago_ray.chemistry.formula import amounts_row, parse
from kiago_ray.chemistry.series import LETTERS, Series
from kiago_ray.report.plots import COLORS, GREY, TC, Array, finish, new_figure
from kiago_ray.report.reasons import NEAR_L1, named, of_itself, undoped
from kiago_ray.report.tables import with_spread
from kiago_ray.screening.known import CONTRADICTED_K, EXTRAPOLATED, contradicted
from kiago_ray.screening.scans import Scan

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
_HEIGHT, _MARGIN = 14, 7  # lines and characters of a plot in a terminal
_CELL = 5  # characters of a map's cell
_PANELS = 3  # beside each other
_BANDS = 4  # of σ; more would hide each other
_FEW = 3  # measured compositions, of which it can be told whether T_c falls
_TOP = {  # kind of a doubt → at the top of a series, before the places
    "undoped": "Undoped as written, where no prediction holds,",
    "hardly doped": "Hardly doped",
    "pressure": "Superconducting under pressure, of which the models know nothing,",
    "extrapolated": "Far from all that the models learnt",
}


def rows_of(scan: Scan, series: Series) -> list[dict[str, Any]]:
    """The rows of a series with their `doubts`: why the T_c predicted can't be believed, in a few words each."""
    rows = scan.rows(series)
    beyond = {
        row["x"]: [f"beyond {place(end)}, to which the measured T_c falls"]
        for end, _, there in (_beyond(rows) if len(series.dopings) == 1 else ())
        for row in there
    }
    return [row | {"doubts": [*_doubts(row).values(), *beyond.get(row["x"], [])]} for row in rows]


def _doubts(row: Row) -> dict[str, str]:
    """What kind of doubt there is of a row's own → in a few words."""
    found, itself = {}, of_itself(row)
    if remark := undoped(row):
        found["undoped"] = remark
    elif row["known_tc_k"] is None and row["holes_per_cu"] is not None and _hardly_doped(row):
        found["hardly doped"] = (
            f"fewer than {HARDLY_DOPED:g} holes a copper, where cuprates hardly superconduct"
        )
    if itself is not None and itself.alarm:
        found["contradicted" if row["contradicted"] else "pressure"] = itself.brief
    elif (pressure := row["nearest_pressure_gpa"] or 0) > 0 and row["nearest_distance"] <= NEAR_L1:
        found["pressure"] = (
            f"{named(row, 'nearest_known')} nearby was measured under {pressure:g} GPa, which no model knows"
        )
    if (row["extrapolation"] or 0) > EXTRAPOLATED:
        found["extrapolated"] = "far from all that the models learnt"
    return found


def _hardly_doped(row: Row) -> bool:
    amounts = amounts_row(parse(row["formula"]))[None]
    return bool(hardly_doped(amounts, np.array([row["holes_per_cu"]]))[0])


def _measured(rows: Sequence[Row]) -> list[Row]:
    """The known compositions among rows, at ambient pressure, by rising x."""
    return [row for row in rows if row["known_tc_k"] is not None and not row["known_pressure_gpa"]]


def _beyond(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[Row]]]:
    """Where a curve rises though what was measured falls: the last that was measured, the highest prediction beyond,
    and all rows there. T_c falls to the last by more than CONTRADICTED_K, and the prediction is as much above it as
    contradicts it.
    """
    known = _measured(rows)
    highest = max((row["known_tc_k"] for row in known), default=0.0)
    for end, side in ((known[0], -1), (known[-1], 1)) if len(known) >= _FEW else ():
        last = end["known_tc_k"]
        there = [row for row in rows if side * (row["x"] - end["x"]) > 0 and (row["tc_k"] or 0) > 0]
        if there and highest - last > CONTRADICTED_K:
            high = max(there, key=lambda row: row["tc_k"])
            tc, std = _columns([high], "tc_k", "tc_std_k")
            if tc[0] > last and contradicted(tc, std, np.array([last]), np.array([np.nan]))[0]:
                yield end, high, there


def warnings(rows: Sequence[Row]) -> list[str]:
    """Sentences for the top of a series, whose rows have `doubts`: where no model can be right."""
    known = [row for row in _measured(rows) if row["tc_k"] is not None]
    off = [row for row in known if row["contradicted"]]
    lines = []
    if off:
        worst = max(off, key=lambda row: abs(row["tc_k"] - row["known_tc_k"]))
        lines.append(
            f"Measurements contradict the predictions at {len(off)} of {len(known)} known compositions, most at "
            f"{place(worst)}: {worst['known_tc_k']:.1f} K measured, {with_spread(worst)} K predicted."
        )
    for end, high, _ in _beyond(rows) if rows[0]["y"] is None else ():
        lines.append(
            f"The curve rises to {high['tc_k']:.1f} K at {place(high)}, but the measured T_c falls, from "
            f"{max(row['known_tc_k'] for row in known):.1f} K to {end['known_tc_k']:.1f} K at {place(end)}: don't "
            "believe it beyond."
        )
    kinds = [_doubts(row) for row in rows]
    for kind, told in _TOP.items():
        there = [kind in each for each in kinds]
        if any(there):
            lines.append(f"{told} at {_places(rows, there)}.")
    return lines


def _places(rows: Sequence[Row], there: Sequence[bool]) -> str:
    """Where in a series: x = 0 to 0.02, 0.5; in a map how many."""
    if rows[0]["y"] is not None:
        return f"{sum(there)} of {len(rows)} points"
    pairs = zip(rows, there, strict=True)
    runs = [[row["x"] for row, _ in run] for here, run in groupby(pairs, lambda pair: pair[1]) if here]
    return "x = " + ", ".join(f"{run[0]:g}" + (f" to {run[-1]:g}" if len(run) > 1 else "") for run in runs)


def described(scan: Scan) -> list[dict[str, Any]]:
    """Each series with its `warnings` and its rows, which also have their `doubts`, for JSON."""
    found = []
    for series in scan.series:
        rows = rows_of(scan, series)
        found.append(
            {
                "series": series.name,
                "sites": [each.site for each in series.dopings],
                "dopants": [each.dopant for each in series.dopings],
                "warnings": warnings(rows),
                "points": [{name: value for name, value in row.items() if name != "series"} for row in rows],
            }
        )
    return found


def best(rows: Sequence[Row]) -> Row | None:
    """The row of the highest T_c that nothing speaks against; None where there is none."""
    sound = [row for row in rows if row["tc_k"] is not None and not row["doubts"]]
    return max(sound, key=lambda row: row["tc_k"], default=None)


def summary_lines(scan: Scan) -> list[str]:
    """A line for each series: its letter in a plot of characters, and what a person takes from it."""
    curves = len(scan.series[0].dopings) == 1
    letters = [f"{letter}  " for letter in ascii_lowercase] if curves else [""] * len(scan.series)
    lines = (_summary(series, rows_of(scan, series)) for series in scan.series)
    return [f"{letter}{line}" for letter, line in zip(letters, lines, strict=False)]


def _summary(series: Series, rows: Sequence[Row]) -> str:
    top, known = best(rows), [row for row in rows if row["known_tc_k"] is not None]
    text = "every T_c here is doubtful"
    if top is not None:
        spread = "" if top["tc_std_k"] is None else f" ± {top['tc_std_k']:.0f}"
        oracle = "" if top["tc_oracle_k"] is None else f", oracle {top['tc_oracle_k']:.1f} K"
        end = (
            ", the end of the range"
            if top["x"] == max(series.dopings[0].x) > min(series.dopings[0].x)
            else ""
        )
        text = f"T_c up to {top['tc_k']:.1f}{spread} K at {place(top)}{end}, {top['formula']}{oracle}"
    if not known:
        compared = any(row["nearest_known"] is not None for row in rows)
        return f"{series.name}: {text}{'; none of its compositions is known' if compared else ''}"
    high = max([row for row in known if not undoped(row)] or known, key=lambda row: row["known_tc_k"])
    under = f" under {high['known_pressure_gpa']:g} GPa" if high["known_pressure_gpa"] else ""
    off = [abs(row["tc_k"] - row["known_tc_k"]) for row in _measured(known) if row["tc_k"] is not None]
    mean = f", off by {np.mean(off):.1f} K on average" if off else ""
    return f"{series.name}: {text}; {len(known)} known, up to {high['known_tc_k']:.1f} K{under} at {place(high)}{mean}"


def place(row: Row) -> str:
    """Such as x = 0.15, y = 0.1."""
    return ", ".join(f"{letter} = {row[letter]:g}" for letter in LETTERS if row[letter] is not None)


def scan_plot(scan: Scan) -> Figure:
    """T_c over x, a curve for each series; of two letters a map for each."""
    return _curves(scan) if len(scan.series[0].dopings) == 1 else _maps(scan)


def _subscript(amount: str) -> str:
    return f"$_{{\\mathrm{{{amount}}}}}$" if amount else ""


def _columns(rows: Sequence[Row], *names: str) -> list[Array]:
    """Columns (n,) of rows, NaN where there is nothing."""
    return [np.array([row[name] for row in rows], dtype=np.float64) for name in names]


def _colors(count: int) -> list[Any]:
    """So many colours that are told apart as far as can be."""
    from matplotlib import colormaps

    return list(
        COLORS[:count] if count <= len(COLORS) else colormaps["turbo"](np.linspace(0.05, 0.95, count))
    )


def _curves(scan: Scan) -> Figure:
    figure, (axes,) = new_figure(7.2, 4.8)
    for series, color in zip(scan.series, _colors(len(scan.series)), strict=True):
        rows = rows_of(scan, series)
        x, tc, std, oracle, measured = _columns(rows, "x", "tc_k", "tc_std_k", "tc_oracle_k", "known_tc_k")
        reports, pressure = _columns(rows, "known_reports", "known_pressure_gpa")
        sound = np.array([not row["doubts"] for row in rows])
        if len(scan.series) <= _BANDS:
            axes.fill_between(x, np.clip(tc - std, 0, None), tc + std, color=color, alpha=0.15, linewidth=0)
        axes.plot(x, tc, color=color, linewidth=1.2, linestyle=":", zorder=3)
        shown = np.where(sound, tc, np.nan)
        axes.plot(x, shown, color=color, linewidth=2, zorder=4, label=series.written(_subscript))
        axes.plot(x, oracle, color=color, linewidth=0.9, linestyle="--", zorder=2)
        size, pressed = 12 + 12 * np.log2(np.fmax(reports, 1)), pressure > 0
        for which, face in ((~pressed, color), (pressed, "white")):
            style = {"facecolors": face, "edgecolors": "black", "linewidths": 0.6, "alpha": 0.75, "zorder": 5}
            axes.scatter(x[which], measured[which], s=size[which], **style)
    black = {"color": "black"}
    axes.plot([], [], **black, linewidth=2, label="predicted" + ", with 1σ" * (len(scan.series) <= _BANDS))
    axes.plot([], [], **black, linewidth=1.2, linestyle=":", label="predicted, but doubtful")
    axes.plot([], [], **black, linewidth=0.9, linestyle="--", label="oracle")
    known = [row for row in scan.table.to_pylist() if row["known_tc_k"] is not None]
    dot = {"edgecolors": "black", "linewidths": 0.6}
    if known:
        axes.scatter([], [], c=GREY, **dot, label="measured (larger: more reports)")
    if any(row["known_pressure_gpa"] for row in known):
        axes.scatter([], [], c="white", **dot, label="measured under pressure")
    alone = len(scan.series) == 1
    axes.set_xlabel(f"x in {scan.series[0].written(_subscript)}" if alone else "x (atoms of the formula)")
    axes.set_ylabel(f"{TC} (K)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    return finish(figure, axes, columns=3, size=8.5)


def _grid(series: Series, rows: Sequence[Row], values: Sequence[float]) -> tuple[Floats, Floats, Floats]:
    """x (a,), y (b,) of a map, and the values of its rows at them, (b, a), NaN where there is none."""
    x, y = (np.array(each.x) for each in series.dopings)
    filled = np.full((len(y), len(x)), np.nan)
    for row, value in zip(rows, values, strict=True):
        if row["on_grid"]:
            filled[np.abs(y - row["y"]).argmin(), np.abs(x - row["x"]).argmin()] = value
    return x, y, filled


def _maps(scan: Scan) -> Figure:
    wide = min(len(scan.series), _PANELS)
    high = -(-len(scan.series) // wide)
    figure, panels = new_figure(1.6 + 4.2 * wide, 0.9 + 3.6 * high, high, wide)
    every = [rows_of(scan, series) for series in scan.series]
    highest = np.nanmax([*_columns(scan.table.to_pylist(), "tc_k", "known_tc_k")], initial=1.0)
    shades = {"cmap": "viridis", "vmin": 0, "vmax": highest}
    for axes in panels[len(every) :]:
        axes.set_axis_off()
    for axes, series, rows in zip(panels, scan.series, every, strict=False):
        x, y, tc = _grid(series, rows, _columns(rows, "tc_k")[0].tolist())
        axes.grid(visible=False)
        image = axes.pcolormesh(x, y, tc, shading="nearest", **shades)
        doubtful = [row for row in rows if row["on_grid"] and row["doubts"]]
        axes.scatter(
            *_columns(doubtful, "x", "y"),
            marker="x",
            s=14,
            c="white",
            linewidths=0.7,
            zorder=5,
            label="doubtful",
        )
        at_x, at_y, measured = _columns(
            [row for row in rows if row["known_tc_k"] is not None], "x", "y", "known_tc_k"
        )
        style = {
            "edgecolors": "white",
            "linewidths": 0.9,
            "s": 34,
            "zorder": 4,
            "label": "measured, same colours",
        }
        axes.scatter(at_x, at_y, c=measured, **style, **shades)
        changes = [
            f"{letter} ({each.dopant} on {each.site})"
            for letter, each in zip(LETTERS, series.dopings, strict=True)
        ]
        axes.set(xlabel=changes[0], ylabel=changes[1])
        axes.locator_params(axis="x", nbins=6)
        axes.set_title(series.written(_subscript), loc="left", fontsize=10)
    figure.colorbar(image, ax=panels, label=f"predicted {TC} (K)", pad=0.02)
    finish(figure, panels[0], size=8.5)
    for handle in figure.legends[0].legend_handles:  # white ones would not be seen
        if handle is not None:
            handle.set(facecolor=GREY, edgecolor=GREY)
    return figure


def text_plot(scan: Scan, width: int) -> list[str]:
    """Lines of characters: T_c over x of all series; of two letters a table of T_c for each map."""
    if len(scan.series[0].dopings) == 2:
        return [line for series in scan.series for line in _text_map(series, rows_of(scan, series), width)]
    rows = scan.table.to_pylist()
    x, tc, known = _columns(rows, "x", "tc_k", "known_tc_k")
    left, right, top = x.min(), x.max(), max(np.nanmax([tc, known], initial=1.0), 1.0)
    columns = max(min(width, 80) - _MARGIN - 1, 20)
    canvas = np.full((_HEIGHT, columns), " ")

    def draw(at_x: Any, value: Any, letter: str) -> None:
        there = np.isfinite(value)
        column = np.rint((at_x - left) / max(right - left, 1e-9) * (columns - 1))[there].astype(int)
        line = np.rint((1 - np.clip(value[there] / top, 0, 1)) * (_HEIGHT - 1)).astype(int)
        canvas[line, column] = letter

    for letter, series in zip(ascii_lowercase, scan.series, strict=False):
        own, own_tc = _columns(scan.rows(series), "x", "tc_k")
        between = np.linspace(own.min(), own.max(), columns)
        draw(between, np.interp(between, own, own_tc), letter)
    for letter, series in zip(ascii_lowercase, scan.series, strict=False):
        at_x, measured = _columns(scan.rows(series), "x", "known_tc_k")
        draw(at_x, measured, letter.upper())
    lines = [f"{'':{_MARGIN}}|{''.join(line)}".rstrip() for line in canvas]
    for at in (0, _HEIGHT // 2, _HEIGHT - 1):
        lines[at] = f"{top * (1 - at / (_HEIGHT - 1)):{_MARGIN - 1}.3g} " + lines[at][_MARGIN:]
    axis = f"{left:g}".ljust(columns - len(f"{right:g}")) + f"{right:g}"
    return [
        "T_c (K) over x; small letters predicted, capitals measured",
        *lines,
        f"{'':{_MARGIN}}+{'-' * columns}",
        f"{'':{_MARGIN + 1}}{axis}",
    ]


def _text_map(series: Series, rows: Sequence[Row], width: int) -> list[str]:
    x, y, tc = _grid(series, rows, _columns(rows, "tc_k")[0].tolist())
    doubtful = _grid(series, rows, [float(bool(row["doubts"])) for row in rows])[2] == 1
    across = -(-len(x) // max((width - 8) // (_CELL + 1), 2))  # every so manyth
    down = -(-len(y) // 24)
    title = f"T_c (K) of {series.name}, y down and x across; ? is doubtful"
    header = f"{'y / x':>8}" + "".join(f"{each:{_CELL + 1}.4g}" for each in x[::across])
    lines = [title, header]
    for at in range(0, len(y), down):
        cells = zip(tc[at, ::across], doubtful[at, ::across], strict=True)
        texts = ("-" if np.isnan(value) else f"{value:.0f}{'?' if doubt else ''}" for value, doubt in cells)
        lines.append(f"{y[at]:8.4g}" + "".join(f"{text:>{_CELL + 1}}" for text in texts))
    return lines
