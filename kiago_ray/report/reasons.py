"""Why a row may be believed, and why not: plain sentences made from that row's own numbers.

What was measured of the very composition comes first. Where that contradicts the prediction, or was found under
pressure, of which the models know nothing, nothing is said for the prediction: a measurement outweighs it.

Every sentence states the number it rests on, so that a reader can weigh it otherwise. The limits are rules of thumb
and stand below.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from kiago_ray.chemistry.balance import UNDOPED_REMARK
from kiago_ray.chemistry.formula import FormulaError, as_chemists_write, parse
from kiago_ray.data.tables import shipped_element_counts
from kiago_ray.predictors.weights import ENERGIES
from kiago_ray.screening.known import EXTRAPOLATED
from kiago_ray.screening.screens import SCREENS

Row = Mapping[str, Any]
"""A row of a table of candidates: column → plain value."""

EXPLAINED = 3  # of the best rows
AGREE_K = 2.0  # two models never agree better than this
AGREE_FRACTION = 0.2  # of T_c, where no spread says how well they might
SURE_K, SURE_FRACTION = 5.0, 0.25  # a spread up to either, the second of T_c, counts as sure
LIKELY = 0.3  # an existence that speaks for a row; a search's screen is far more lenient
NEAR_L1 = 0.3  # from here on a known composition says little; SuperCon's own are 0.02 apart
LIKE_MEASURED = 0.6  # of the predicted T_c that a near known composition must have to speak for it
NEAR_HULL_EV_PER_ATOM = 0.025  # of stable compounds nine tenths lie within it, of others three tenths (card)
NEEDS_NO_DOPING = {"Li", "Na", "P", "S", "Se", "Te", "Sb"}  # beside Fe+2 and As: LiFeAs, BaFe2As1.4P0.6
RARE = 0.01  # of the known superconductors: an element in fewer of them is one the predictors know little of


@dataclass(frozen=True)
class Reason:
    """A sentence for or against believing a row. brief: the same in a few words, "" where it is true of all rows.
    alarm: to be shown in red, as a measurement contradicts the prediction or can't be held against it.
    """

    side: Literal["for", "against"]
    sentence: str
    brief: str = ""
    alarm: bool = False


pro, con = partial(Reason, "for"), partial(Reason, "against")


def ef_error(cards: Mapping[str, Mapping[str, Any]], ef_predictor: str = "ensemble") -> float | None:
    """The mean error of E_f on chemical systems never seen, in eV/atom, by the card of a search's predictor; None
    where no card says it.
    """
    card = cards.get("ef" if ef_predictor == "elemnet" else ENERGIES, {})
    score = card.get("splits", {}).get("system")
    if score is None:
        return None
    return float((score if ef_predictor == "elemnet" else score["oqmd"])[ef_predictor]["mae"])


def unseen(row: Row) -> str:
    """Why neutrality says little about a row: "metals only", "one element" or ""."""
    if not row.get("alloy"):
        return ""
    return "one element" if row.get("n_elements") == 1 else "metals only"


def reasons_of(row: Row, ef_error_ev_per_atom: float | None) -> list[Reason]:
    """Sentences on a row of a table of candidates: what was measured of it, then the weightiest of either side."""
    row = defaultdict(lambda: None, row)
    known = of_itself(row)
    of_models = (_screens, _oracle, _extrapolation, _spread, _plausibility)
    beside_known = (_neighbour, _improvement, _gain, _charges, _rare)
    found = [reason for each in (*of_models, *beside_known) for reason in each(row)]
    found += _stability(row, ef_error_ev_per_atom)
    if known is None:
        return found
    return [known, *(reason for reason in found if reason.side == "against" or not known.alarm)]


def named(row: Row, column: str) -> str | None:
    """The known composition in a column, its elements in the order of the row's formula; None where there is none."""
    known: str | None = row.get(column)
    try:
        return known and as_chemists_write(known, row.get("formula"), None)
    except FormulaError:  # of undetermined oxygen
        return known


def of_itself(row: Row) -> Reason | None:
    """What was measured of the row's own composition, beside what is predicted; None where it isn't known."""
    known = named(row, "known")
    measured_k, pressure_gpa = row.get("measured_tc_k"), row.get("measured_pressure_gpa")
    tc, std = row.get("tc_k"), row.get("tc_std_k")
    if known is None:
        return None
    if measured_k is None:  # of undetermined oxygen
        return con(f"It is known already: {known}.", f"known, {known}")
    result = measured(measured_k, pressure_gpa)
    predicted = "" if tc is None else f"{tc:z.1f}" + ("" if std is None else f" ± {std:.1f}") + " K"
    if row.get("contradicted"):
        told = (
            f"A measurement contradicts the prediction: {known} was {result}, and {predicted} is predicted."
        )
        return con(told, f"{result}, which contradicts the prediction", alarm=True)
    if pressure_gpa and predicted:
        told = f"It is known already: {known}, {result}. The models know nothing of pressure: their {predicted} is no "
        return con(
            told + "prediction of that.", f"known, {result}; T_c here is no prediction of that", alarm=True
        )
    beside = f"; {predicted} is predicted" if predicted else ""
    return con(f"It is known already: {known}, {result}{beside}.", f"known, {result}")


def _screens(row: Row) -> Iterator[Reason]:
    failed = [screen.label for name, screen in SCREENS.items() if row[name] is False]
    if not row["passed"] and failed:
        yield con(f"It fails screens: {', '.join(failed)}.", f"fails {', '.join(failed)}")


def _oracle(row: Row) -> Iterator[Reason]:
    tc, oracle = row["tc_k"], row["tc_oracle_k"]
    if tc is None:
        return
    if oracle is None:
        yield con("No independent model has been asked for its T_c.", "no second opinion")
        return
    known = [each for each in (row["tc_std_k"], row["tc_oracle_std_k"]) if each is not None]
    allowed = max(AGREE_K, math.hypot(*known) if known else AGREE_FRACTION * tc)
    trees = f"Boosted trees on element properties, which the search never sees, put T_c at {_k(oracle)}"
    if abs(tc - oracle) <= allowed:
        within = "within their spreads" if known else "much the same"
        yield pro(f"{trees}; the search's model says {_k(tc)}: {within}.", f"oracle agrees, {_k(oracle)}")
    elif oracle > tc:
        yield pro(f"{trees}, above the {_k(tc)} of the search's model.", f"oracle higher, {_k(oracle)}")
    else:
        mistake = "the search may have found a mistake of that model"
        why = mistake if tc - oracle > 2 * allowed else "more than their spreads explain"
        below = f"{_k(tc - oracle)} below the {_k(tc)} of the search's model"
        yield con(f"{trees}, {below}: {why}.", f"oracle says {_k(oracle)}")


def _extrapolation(row: Row) -> Iterator[Reason]:
    score, nineteen = row["extrapolation"], "than 19 in 20 known superconductors that were held out"
    if score is None:
        yield con("How far it lies from what the predictors have learnt from isn't known.")
    elif score > EXTRAPOLATED:
        yield con(
            f"Its extrapolation score is {score:.2f}: it lies further from what the predictors have learnt from "
            f"{nineteen}, and their T_c means nothing there.",
            f"extrapolated ({score:.2f})",
        )
    else:
        yield pro(
            f"Its extrapolation score is {score:.2f}, not above 1: it lies no further from what the predictors have "
            f"learnt from {nineteen}."
        )


def _spread(row: Row) -> Iterator[Reason]:
    tc, std = row["tc_k"], row["tc_std_k"]
    if tc is None or std is None:
        return
    reason, do = (pro, "agree") if std <= max(SURE_K, SURE_FRACTION * tc) else (con, "don't agree")
    yield reason(
        f"The networks of the search's model {do}: T_c is {tc:.1f} ± {std:.1f} K (one standard deviation, calibrated "
        "on compositions that were held out).",
        f"T_c ± {_k(std)}",
    )


def _plausibility(row: Row) -> Iterator[Reason]:
    exists, reported, why = row["existence"], row["plausibility"], row["plausibility_reason"]
    if exists is None:
        return
    told = f"such a composition exists with a probability of {exists:.2f}"
    if reported is not None:
        told += f", and is reported in the next years with one of {reported:.2g}"
    reason = pro if exists >= LIKELY else con
    sentence = f"By what is known of its relatives, {told}" + (f": {why}." if why else ".")
    yield reason(sentence, f"exists, P {exists:.2f}")


def _neighbour(row: Row) -> Iterator[Reason]:
    formula, distance, tc_k = named(row, "nearest_known"), row["nearest_distance"], row["nearest_tc_k"]
    if row["known"]:
        return  # see of_itself
    if formula is None or distance is None:
        yield con("It was held against no known compositions.", "no known neighbours")
        return
    result = measured(tc_k, row["nearest_pressure_gpa"])
    nearest = f"The nearest known composition is {formula} (L1 distance {distance:.2f}), {result}"
    near = f"near {formula}, {result}"
    if distance > NEAR_L1:
        yield con(
            f"{nearest}: too far off to say much; SuperCon's own compositions have theirs at about 0.02.",
            f"far from all known (L1 {distance:.2f})",
        )
    elif (row["nearest_pressure_gpa"] or 0.0) > 0:
        yield con(f"{nearest}: what holds there needn't hold without.", near)
    elif tc_k is None or tc_k < LIKE_MEASURED * (row["tc_k"] or 0.0):
        yield con(f"{nearest}, far below what is predicted here.", near)
    else:
        yield pro(f"{nearest}.", near)
    trusted = row["trusted_tc_k"]
    compared = row["gain"] is not None  # with all that is known nearby, see _improvement
    if distance > NEAR_L1 or compared or tc_k is None or trusted is None or tc_k < trusted:
        return
    yield con(
        f"{formula} has been measured no lower than the {_k(trusted)} that this row can be trusted with: it may be no "
        "gain over what is known.",
        "no gain over it",
    )


def _improvement(row: Row) -> Iterator[Reason]:
    best, best_tc, improvement = (
        named(row, "best_nearby"),
        row["best_nearby_tc_k"],
        row["expected_improvement_k"],
    )
    if row["known"] or best is None or best_tc is None or improvement is None:
        return
    told = f"the best known nearby is {best} with {_k(best_tc)}, and an improvement of {_k(improvement)} is expected"
    if row["gain"]:
        yield pro(f"It is a gain over what is known: {told}.", f"over {best}, {_k(best_tc)}")
    else:
        yield con(f"It may be no gain over what is known: {told}.", f"no gain over {best}")


def _gain(row: Row) -> Iterator[Reason]:
    trusted, delta, tc = row["trusted_tc_k"], row["delta_tc_k"], row["tc_k"]
    if trusted is None or delta is None or tc is None:
        return
    at_base, bound = tc - delta, f"lower bound, a trusted T_c of {_k(trusted)}"
    what = f"above the base: {row['base'] or 'the base'} is predicted at {_k(at_base)}"
    if trusted > at_base:
        yield pro(f"Even its {bound}, is {what}.")
    else:
        yield con(f"Its {bound}, isn't {what}.", "not surely above the base")


def undoped(row: Row) -> str:
    """What a parent compound is without doping, in a few words; "" where it is none."""
    if row["undoped"]:
        return "undoped as written, an insulator"
    arsenide = row["mean_valences"] == "Fe+2" and "As" in (held := parse(row["formula"]))
    return "undoped as written, a magnetic metal" if arsenide and not held.keys() & NEEDS_NO_DOPING else ""


def _charges(row: Row) -> Iterator[Reason]:
    remark, states = unseen(row), row["oxidation_states"]
    if remark:
        yield con(
            f"It is {'one element' if remark == 'one element' else 'made of metals only'}: charge neutrality, which "
            "rules out most other formulas, can't be asked.",
            remark,
        )
    elif row["undoped"]:
        yield con(f"It is a cuprate that is {UNDOPED_REMARK} ({states}).", "undoped as written")
    elif undoped(row):
        yield con(
            f"It is an iron arsenide that is undoped as written ({states}): such are magnetic, and superconduct "
            "with a dopant or under pressure.",
            "undoped as written",
        )
    elif row["charge_kind"] == "metallic":
        yield con(
            "It is judged as a metal, intermetallic or hydride: charge neutrality, which rules out other formulas, "
            "can't be asked.",
            "metallic",
        )
    elif states and row["balanced"]:
        mixed = ", atoms of one element differing" if "*" in states else ""
        yield pro(f"Its charges balance{mixed}, and cations are the less electronegative: {states}.")
    elif states:
        yield con(f"Its charges balance only by unlikely states: {states}.", "unlikely states")
    elif row["neutral"]:
        yield con(
            "Its charges balance only with a cation that is more electronegative than an anion.",
            "odd oxidation states",
        )
    elif row["balanced"] is False:
        yield con("No likely oxidation states of its elements balance.")


def _rare(row: Row) -> Iterator[Reason]:
    if not row["formula"]:
        return
    known = shipped_element_counts()["supercon"]
    counts = {symbol: known.counts.get(symbol, 0) for symbol in parse(row["formula"])}
    rare = [symbol for symbol, count in counts.items() if count < RARE * known.compositions]
    if rare:
        listed = ", ".join(f"{symbol} in {counts[symbol]:,}" for symbol in rare)
        yield con(
            f"The predictors know little of some of its elements: {listed} of {known.compositions:,} known "
            "superconductors.",
            f"rare {', '.join(rare)}",
        )


def _stability(row: Row, error: float | None) -> Iterator[Reason]:
    ef = row["ef_ev_per_atom"]
    if ef is not None:
        value = f"E_f is predicted at {ef:z.3f} eV/atom"
        if error is not None:
            value += f"; its error on chemical systems never seen is {error:.3f} eV/atom on average"
        if ef < -(error or 0.0):
            yield pro(f"It is stable against its elements: {value}.")
        else:
            yield con(f"It may not even be stable against its elements: {value}.", f"E_f {ef:z.2f}")
    above, std = row["e_hull_ev_per_atom"], row["e_hull_std_ev_per_atom"]
    if above is None:
        yield con(
            "Whether it is stable against other compounds was not checked: a negative E_f doesn't tell, and most such "
            "compositions decompose into those."
        )
        return
    where = f"{above:.3f} eV/atom above the hull of competing phases"
    where += ", by the energy of the phase that it is" if std is None else f", give or take {std:.3f}"
    if above <= NEAR_HULL_EV_PER_ATOM:
        yield pro(
            f"It lies {where}: so do nine tenths of the stable compounds, and three tenths of the others."
        )
    else:
        yield con(f"It lies {where}: {row['decomposition']}.", f"ΔE_hull {above:.2f}")


def measured(tc_k: float | None, pressure_gpa: float | None) -> str:
    """Such as "measured at 80 K under 14 GPa"."""
    if tc_k is None:
        return "of unknown T_c"
    if tc_k <= 0:
        return "not found to superconduct"
    return f"measured at {_k(tc_k)}" + (f" under {pressure_gpa:g} GPa" if pressure_gpa else "")


def _k(value: float) -> str:
    """A temperature with as many digits as mean something."""
    return f"{value:z.0f} K" if abs(value) >= 9.95 else f"{value:z.1f} K"
