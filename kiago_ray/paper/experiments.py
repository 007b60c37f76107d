"""The experiments whose cells the tables are made of, and the directory that keeps what each cell found.

A cell is one experiment × base × method × seed. Its file is named by these and by a digest of everything else that
decides its outcome, so that nothing is computed twice and results of several sizes lie side by side; what they all
rest on, such as weights, is the directory's identity.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from kiago_ray.api import JudgedRows, judged_formulas
from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import (
    BATCH_ROWS,
    SCALE_FACTORS,
    STEPS,
    Guidance,
    Samples,
    SuperDiff,
    mean_changes,
    sample,
)
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import fractions, parse, parse_amounts, parse_fractions, write
from kiago_ray.models import Models
from kiago_ray.paper.tables import METHODS, SEARCHES, Size, comparison
from kiago_ray.predictors.base import predict
from kiago_ray.screening.screens import HYDRIDE_ATOMS, HYDRIDE_ELEMENTS, MIN_HYDROGEN
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.run import SHARD_ROWS, given_result, run_search
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import open_run

CELLS = "cells"
GUIDANCE_ALPHA, GUIDANCE_WEIGHT = 4.0, 1e-3  # section 3.1
# The paper doesn't say what its weight multiplies. With the gradient of the loss's mean over so many rows, Table 4's
# changes of T_c come out of the paper's size; with each row's own gradient they are some hundred times larger.
GUIDANCE_ROWS = 256
DEVICE_BATCH_ROWS = 4096  # samples at a time on a GPU, which fewer don't fill
GUIDANCE_BASE = "HgBa2Ca2Cu3O8"
"""Table 4's base. The paper doesn't name it; its sums of some 123 K only fit a mercury cuprate."""
START_BASE, START_LEARNING_RATE = "LaNiAsO", 0.001
STARTS: Mapping[str, str] = {"existing": "from LaNiAsO with noise", "random": "from random compositions"}
"""Fig. 3's kinds of start, which take the methods' place in its cells."""
SINGLE_ROWS, CURVE_POINTS = 40, 101  # of Fig. 3 that are kept
INTEGER_LIMITS = (15, 20, 25, 50, 100)
INTEGER_PRESETS: Mapping[str, str] = {"kiago": "paper", "ours": "open"}
TOLERANCE = 0.01  # of a ratio, "within 1 %" (section 3.5)
BEST_ROWS = 50  # of a cell that are kept
_COLUMNS = "formula tc_k tc_oracle_k trusted_tc_k ef_ev_per_atom extrapolated oxidation_states"

Figures = dict[str, Any]
"""What a cell found, as plain types."""
Found = Mapping[tuple[str, str, int], Figures]
"""What cells found, by base, method and seed; a cell that failed is missing."""
Plan = tuple[Mapping[str, Any], Callable[[], Figures]]
"""What decides a cell's outcome beside its name and the directory's identity, as plain types; what computes it."""


def open_cells(where: str, identity: Mapping[str, Any]) -> Location:
    """The directory of cells, made or found. Raises RunDirectoryError where it rests on other weights or data."""
    location = open_run(where, {"paper": dict(identity)}).location
    (location / CELLS).make_directory()
    return location


@dataclass
class Lab:
    """What experiments are run with.

    models: with an oracle, and with the hull of the competing phases that a user gave. superdiff: None where no table
    asks for it. say: called with a line before each cell that has to be computed. failures: cause by cell, filled as
    cells fail.
    """

    models: Models
    superdiff: SuperDiff | None
    location: Location
    size: Size
    say: Callable[[str], None] = lambda line: None
    failures: dict[str, str] = field(default_factory=dict)

    def cells(self, name: str, pairs: Iterable[tuple[str, str]], seeds: Sequence[int]) -> Found:
        """The cells of an experiment with every seed. One that fails is said, noted in `failures` and left out."""
        found: dict[tuple[str, str, int], Figures] = {}
        places = list(itertools.product(pairs, seeds))
        for number, ((base, method), seed) in enumerate(places, start=1):
            cell = f"{name}-{base}-{method}-{seed}"
            try:
                about, compute = EXPERIMENTS[name](self, base, method, seed)
                of = f"{number} of {len(places)}"
                found[base, method, seed] = self.cell(cell, about, compute, of)
            except Exception as error:  # one cell that can't be run must not lose the others
                self.failures[cell] = f"{type(error).__name__}: {error}"
                self.say(f"failed: {cell}: {error}")
        return found

    def cell(
        self, name: str, about: Mapping[str, Any], compute: Callable[[], Figures], of: str = ""
    ) -> Figures:
        """What one cell found, computed and written where it wasn't yet, or where its file is damaged. of: its number,
        such as 3 of 24.
        """
        key = json.dumps(about, sort_keys=True)
        place = self.location / CELLS / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        kept = place.read_mapping()
        if isinstance(kept.get("found"), dict) and json.dumps(kept.get("about"), sort_keys=True) == key:
            return dict(kept["found"])
        self.say(f"{name} ({of})" if of else name)
        began = time.perf_counter()
        found = {**compute(), "seconds": round(time.perf_counter() - began, 2)}
        text = json.dumps({"about": about, "found": found}, indent=1, allow_nan=False)
        place.write_bytes(text.encode())
        return dict(json.loads(text)["found"])

    def searched(self, spec: SearchSpec, trajectory_rows: int = 0) -> SearchResult:
        """What a search finds."""
        return run_search(
            spec, self.models.predictors, self.models.frequencies, trajectory_rows=trajectory_rows
        )

    def predicted(self, formulas: Collection[str]) -> dict[str, dict[str, float]]:
        """T_c of each formula in K by the search's model and by the oracle, E_f and, where phases were given, ΔE_hull
        in eV/atom. A formula with an element that the predictors don't know is left out.
        """
        texts = [text for text in dict.fromkeys(formulas) if not set(parse(text)) & self.models.foreign]
        if not texts:
            return {}
        x, oracle = parse_fractions(texts), self.models.oracle
        assert oracle is not None
        follow = self.models.predictors.following("resnet18")
        tc_k, ef = (predict(each, x.astype(np.float32)) for each in (follow.tc, follow.ef))
        columns = {"tc_k": tc_k.clip(0), "tc_oracle_k": oracle.predict(x)[0], "ef_ev_per_atom": ef}
        if self.models.hull is not None:
            columns["e_hull_ev_per_atom"] = self.models.hull.e_hull(x, self.models.hull.energies(x)[0])
        found = pd.DataFrame(columns, texts, dtype=float).to_dict("index")
        return cast("dict[str, dict[str, float]]", found)


def proposals(name: str, lab: Lab, base: str, method: str, seed: int) -> Plan:
    """Formulas that a method proposes from a base of the family `name`, judged by the paper's T_c predictor and
    screens (sections 3.4 to 3.6): T_c of the base in K, rates, screens and the best formulas.
    """
    family, size, count = comparison().families[name], lab.size, lab.size.candidates[name]
    judge, sites, keep = family.judge(base), family.bases[base], family.keep
    about: dict[str, Any]
    propose: Callable[[], Floats]  # (n, 118) in atoms, zeros for none
    if method in SEARCHES:
        changes = {"candidates": count, "steps": size.steps[method], "seed": seed}
        search = family.search(base, method, changes)
        about, propose = {"search": search.model_dump(mode="json")}, lambda: lab.searched(search).amounts
    elif method == "substitution":
        supported = lab.models.predictors.supported.cpu().numpy()
        swap = partial(exchange, base, supported, judge.oxidation_set, sites=sites or None, keep=keep)
        exchanged = {"sites": sites, "keep": keep, "count": count}
        about, propose = {"exchange": exchanged}, lambda: swap().rows(count, seed)
    else:
        weight = GUIDANCE_WEIGHT if method == "superdiff_cg" else 0.0
        sampling, draw = diffusion(lab, base, count, weight, seed, size.diffusion_steps)
        about, propose = {"superdiff": sampling}, lambda: draw().amounts

    def compute() -> Figures:
        material, judges = lab.models.base(judge), Models(lab.models.predictors, lab.models.oracle)
        assert material is not None
        tc_k = {"tc_k": material.tc_predicted_k, "tc_oracle_k": material.tc_oracle_k}
        rows = judged_formulas(propose(), judge, judges, name=method)
        return {"base": {**tc_k, "tc_measured_k": material.tc_measured_k}, **figures(rows, judge, sites)}

    return {"judge": judge.model_dump(mode="json"), **about}, compute


def guidance(lab: Lab, base: str, method: str, seed: int) -> Plan:
    """SuperDiff by Table 4's weights, in the methods' place: mean changes of T_c in K by cause, and who passes."""
    count, steps = lab.size.candidates["guidance"], lab.size.guidance_steps
    judge = comparison().families["materials"].judge(base)
    sampling, draw = diffusion(lab, base, count, float(method), seed, steps, account=True)

    def compute() -> Figures:
        samples = draw()
        assert samples.changes is not None
        rows = judged_formulas(samples.amounts, judge, Models(lab.models.predictors))
        return {
            **mean_changes(samples.changes),
            "passed": float(np.mean(rows.table["passed"].to_numpy())),
            "statuses": samples.counts(),
        }

    return {"judge": judge.model_dump(mode="json"), "superdiff": sampling}, compute


def diffusion(
    lab: Lab, base: str, count: int, weight: float, seed: int, steps: int, *, account: bool = False
) -> tuple[dict[str, Any], Callable[[], Samples]]:
    """SuperDiff's samples around a base by ILVR, guided where `weight` isn't 0, with an account of T_c if asked: what
    decides them, and what draws them.

    weight: of guidance, in the paper's unit (see GUIDANCE_ROWS), in a step of 1,000; with fewer steps each weighs
    as many times more, so that the whole of it stays.
    """
    follow, model = lab.models.predictors.following("resnet18"), lab.superdiff
    assert model is not None
    guide = Guidance(follow.tc, follow.ef, GUIDANCE_ALPHA, weight / GUIDANCE_ROWS * STEPS / steps)
    about = {"sha256": model.card["sha256"], "count": count, "scales": SCALE_FACTORS, "steps": steps}
    guided = {"alpha": GUIDANCE_ALPHA, "weight": weight, "rows": GUIDANCE_ROWS} if weight else {}
    return {**about, **guided}, lambda: sample(
        model,
        count,
        base=parse_amounts(base),
        guidance=guide if weight else None,
        seed=seed,
        steps=steps,
        batch_rows=BATCH_ROWS if lab.models.device == "cpu" else DEVICE_BATCH_ROWS,
        device=lab.models.device,
        account=follow.tc if account else None,
    )


def starts(lab: Lab, base: str, method: str, seed: int) -> Plan:
    """Stage 1 from an existing superconductor with noise or from random compositions (section 3.2, Fig. 3): T_c in K
    over the steps, mean and deciles over rows, some single rows; and of the last step the best T_c and the share of
    rows at 0 K.
    """
    changes = {
        "base": base,
        "candidates": lab.size.candidates["starts"],
        "seed": seed,
        "steps": (lab.size.start_steps, 0),
        "learning_rate": START_LEARNING_RATE,
        "start.kind": "perturb" if method == "existing" else "random",
    }
    spec = load_preset("paper", changes)

    def compute() -> Figures:
        path = lab.searched(spec, trajectory_rows=spec.candidates).trajectory
        summary = path.summary()
        steps = np.unique(np.linspace(0, len(path.stage) - 1, CURVE_POINTS).round().astype(int))
        single = np.nan_to_num(path.tc_k[steps, :SINGLE_ROWS].T.astype(np.float64)).round(3)
        last = path.tc_k[-1][np.isfinite(path.tc_k[-1])].astype(np.float64)
        return {
            "steps": steps.tolist(),
            **{name: summary[f"tc_k_{name}"][steps].tolist() for name in ("mean", "p10", "p50", "p90")},
            "rows": single.tolist(),
            "best": float(last.max()) if len(last) else None,
            "zero": float((last <= 0).mean()) if len(last) else None,
        }

    return {"search": spec.model_dump(mode="json")}, compute


def conversions(lab: Lab, base: str, method: str, seed: int) -> Plan:
    """Conversion to integers by the loss against rounding (sections 2.6 and 3.3, Table 1), of a group of materials
    whose stages 2 run together: mean changes of T_c in K from the end of stage 1, by limit, by the search's model and
    by the oracle.
    """
    count, steps = lab.size.candidates["integers"], lab.size.steps[method]
    preset = INTEGER_PRESETS[method]
    firsts = [stage_1(preset, each, count, seed, steps[0]) for each in integer_groups(count)[base]]

    def compute() -> Figures:
        ends = [lab.searched(first) for first in firsts]
        x = np.concatenate([end.x_final[end.status == RowStatus.OK].astype(np.float64) for end in ends])
        x /= x.sum(axis=1, keepdims=True)
        follow, oracle = (
            lab.models.predictors.following(firsts[0].tc_predictor, firsts[0].ef_predictor),
            lab.models.oracle,
        )
        assert oracle is not None
        before = np.asarray(given_result(x, follow).tc_k, dtype=np.float64)
        before_oracle = oracle.predict(x)[0]
        changes: dict[str, dict[str, float | int | None]] = {}
        for limit in INTEGER_LIMITS:
            change = changes[str(limit)] = {}
            by_loss = lab.searched(stage_2(preset, x, limit, steps[1])).amounts
            # Section 3.3's rule-based conversion rounds each amount, and nothing repairs their sum.
            for way, amounts in {"loss": by_loss, "rounding": np.rint(x * limit)}.items():
                some = amounts.any(axis=1)
                shares = amounts[some] / amounts[some].sum(axis=1, keepdims=True)
                change[way] = _mean(given_result(amounts[some], follow).tc_k - before[some])
                change[f"{way}_oracle"] = _mean(oracle.predict(shares)[0] - before_oracle[some])
                change[f"{way}_rows"] = int(some.sum())
        return {"rows": len(x), "before_k": _mean(before), "changes": changes}

    about = {"stage_2": steps[1], "limits": list(INTEGER_LIMITS)}
    return {"stage_1": [first.model_dump(mode="json") for first in firsts], **about}, compute


def integer_groups(count: int) -> dict[str, tuple[str, ...]]:
    """Groups of the materials by name, each as many as fill a shard at `count` rows of each material."""
    materials, size = comparison().integers, max(1, SHARD_ROWS // count)
    groups = [materials[at : at + size] for at in range(0, len(materials), size)]
    return {
        group[0] if len(group) == 1 else f"{len(group)}-materials-from-{group[0]}": group for group in groups
    }


def stage_1(preset: str, base: str, count: int, seed: int, steps: int) -> SearchSpec:
    """Stage 1 alone, its fractions kept but for the limit of elements, so that conversions start alike."""
    changes = {"base": base, "candidates": count, "seed": seed, "steps": (steps, 0)}
    return load_preset(preset, {**changes, "projection": {"kind": "none", "neutral": False}})


def stage_2(preset: str, rows: Floats, limit: int, steps: int) -> SearchSpec:
    """Stage 2 alone from fractions (n, 118), with numbers of atoms up to `limit`. It knows no base."""
    formulas = [write({SYMBOLS[z]: float(row[z]) for z in np.flatnonzero(row > 1e-9)}) for row in rows]
    start = {"kind": "rows", "rows": formulas}
    return load_preset(preset, {"start": start, "steps": (0, steps), "n_unit.max": limit})


EXPERIMENTS: Mapping[str, Callable[[Lab, str, str, int], Plan]] = {
    **{name: partial(proposals, name) for name in ("materials", "sites", "hydrides")},
    "guidance": guidance,
    "starts": starts,
    "integers": conversions,
}
"""The plan of a cell by experiment, of base, method and seed."""


def cells_of(name: str, size: Size) -> list[tuple[str, str]]:
    """The bases and methods of an experiment's cells, in the order in which they run."""
    groups: dict[str, tuple[Collection[str], Collection[str]]] = {
        **{each: (family.bases, METHODS) for each, family in comparison().families.items()},
        "guidance": ([GUIDANCE_BASE], comparison().tables["table4"].rows),
        "starts": ([START_BASE], STARTS),
        "integers": (integer_groups(size.candidates["integers"]), SEARCHES),
    }
    return list(itertools.product(*groups[name]))


def rightly_substituted(amounts: Floats, base: str, element: str) -> Mask:
    """Section 3.5's two criteria on amounts (n, 118), (n,): each preserved element's share of the atoms lies
    within 1 % of what it is in the base, and so does the share of all others together, of the substituted element's;
    one of these at least is new.

    The base itself and rows of zeros fail.
    """
    x0, site = fractions(parse(base)), INDEX[element]
    total = amounts.sum(axis=1, keepdims=True)
    x = amounts / np.where(total > 0, total, 1)
    preserved = (x0 > 0) & (np.arange(len(x0)) != site)
    kept = np.abs(x[:, preserved] - x0[preserved]) <= TOLERANCE * x0[preserved] + 1e-12
    others = np.abs(x[:, ~preserved].sum(axis=1) - x0[site]) <= TOLERANCE * x0[site] + 1e-12
    new = (x[:, x0 == 0] > 0).any(axis=1)
    right: Mask = kept.all(axis=1) & others & new
    return right


def hydride_form(amounts: Floats) -> Mask:
    """Table 10's conditions on amounts (n, 118), (n,): ≥ 40 % hydrogen, ≤ 3 elements, ≤ 15 atoms as written."""
    atoms = amounts.sum(axis=1)
    rich = amounts[:, INDEX["H"]] >= MIN_HYDROGEN * atoms - 1e-9
    few = (amounts > 0).sum(axis=1) <= HYDRIDE_ELEMENTS
    formed: Mask = rich & few & (atoms > 0) & (atoms <= HYDRIDE_ATOMS + 1e-9)
    return formed


def figures(rows: JudgedRows, judge: SearchSpec, sites: Mapping[str, int]) -> Figures:
    """The figures of judged rows. Rates count all rows, as the paper counts samples; screens and the best count each
    formula once. Where `sites` are substituted only rightly substituted formulas pass; where the judge has the
    screen of hydrides, Table 10's form stands in for it, because the screen sees whole formulas alone.
    """
    table, amounts = rows.table, rows.result.amounts
    passed = _mask(table, "passed")
    found: Figures = {"rows": len(table), "neutral_rows": float(_mask(table, "neutral").mean())}
    if "hydride" in judge.screens.names:
        formed = hydride_form(amounts)
        found["hydride_rows"] = float(formed.mean())
        others = [_mask(table, name) for name in judge.screens.names if name != "hydride"]
        passed = np.logical_and.reduce([formed, (amounts > 0).sum(axis=1) >= 2, *others])
    for element in sites:
        right = rightly_substituted(amounts, str(judge.base), element)
        found["right_rows"] = float(right.mean())
        passed = passed & right
    place = table.schema.get_field_index("passed")
    own = replace(rows, table=table.set_column(place, table.schema.field(place), pa.array(passed)))
    outcome = own.outcome(judge.model_copy(update={"screens": ScreensSpec(rank_by="tc")}))
    summary, best = outcome.summary, outcome.table.slice(0, min(outcome.summary.passed, BEST_ROWS))
    return found | {
        "statuses": {name: count for name, count in summary.statuses.items() if count},
        **{name: getattr(summary, name) for name in ("unique", "screens", "passed")},
        "best": best.select(_COLUMNS.split()).to_pylist(),
    }


def _mask(table: Any, column: str) -> Mask:
    mask: Mask = table[column].fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None
