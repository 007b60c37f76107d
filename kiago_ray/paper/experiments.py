"""The experiments whose cells the tables are made of, and the directory that keeps what each cell found.

A cell is one experiment × base × method × seed. Its file is named by these and by a digest of everything else that
decides its outcome, so that nothing is computed twice and results of several sizes lie side by side; what they all
rest on, such as weights, is the directory's identity.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
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
    load_superdiff,
    mean_changes,
    sample,
)
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import fractions, parse, parse_amounts, parse_fractions, write
from kiago_ray.models import Models
from kiago_ray.paper.tables import METHODS, SEARCHES, Size, comparison
from kiago_ray.predictors.base import Predictors, predict
from kiago_ray.screening.rank import Ranking, ranked
from kiago_ray.screening.screens import HYDRIDE_ATOMS, HYDRIDE_ELEMENTS, MIN_HYDROGEN
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.run import SHARD_ROWS, given_result, run_search
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
SITES_OF_INTEGERS = ("LaFeAsO", "SrFe2As2", "Bi2CaSr2Cu2O8", "LaNiC2", "RuSr2YCu2O8", "Y2Fe3Si5", "MgCoNi3")
TOLERANCE = 0.01  # of a ratio, "within 1 %" (section 3.5)
BEST_ROWS = 50  # of a cell that are kept
_SCREENS = ("neutral", "pauling", "neutral_atoms", "hydride", "ef_negative", "few_elements")
_COLUMNS = (
    "formula",
    "tc_k",
    "tc_oracle_k",
    "trusted_tc_k",
    "ef_ev_per_atom",
    "extrapolated",
    "oxidation_states",
)

Figures = dict[str, Any]
"""What a cell found, as plain types."""
Found = Mapping[tuple[str, str, int], Figures]
"""What cells found, by base, method and seed; a cell that failed is missing."""
Plan = tuple[Mapping[str, Any], Callable[[], Figures]]
"""What decides a cell's outcome beside its name and the directory's identity, as plain types; what computes it."""


@dataclass(frozen=True)
class Experiment:
    """pairs: the bases and methods of its cells, in the order in which they run. plan: of base, method and seed."""

    pairs: Callable[[Size], Sequence[tuple[str, str]]]
    plan: Callable[[Lab, str, str, int], Plan]


def open_cells(where: str, identity: Mapping[str, Any]) -> Location:
    """The directory of cells that rest on the same weights and data, made or found. Raises RunDirectoryError where it
    holds results that rest on something else.
    """
    location = open_run(where, {"paper": dict(identity)}).location
    (location / CELLS).make_directory()
    return location


@dataclass
class Lab:
    """What experiments are run with.

    models: with an oracle, and with the hull of the competing phases that a user gave. diffusion: SuperDiff, None for
    the shipped one. say: called with a line before each cell that has to be computed. failures: cause by cell,
    filled as cells fail.
    """

    models: Models
    location: Location
    size: Size
    device: str = "cpu"
    diffusion: SuperDiff | None = None
    say: Callable[[str], None] = lambda line: None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def predictors(self) -> Predictors:
        """What the searches climb."""
        return self.models.predictors

    @property
    def superdiff(self) -> SuperDiff:
        """The diffusion model; the shipped one, loaded on first use, where none was given. Raises WeightsError."""
        if self.diffusion is None:
            self.diffusion = load_superdiff()
        return self.diffusion

    def cells(self, name: str, pairs: Iterable[tuple[str, str]], seeds: Sequence[int]) -> Found:
        """The cells of an experiment with every seed, computed where they weren't yet. A cell that fails is said,
        recorded in `failures` and left out.
        """
        found: dict[tuple[str, str, int], Figures] = {}
        for base, method, seed in [(*pair, seed) for pair in pairs for seed in seeds]:
            cell = f"{name}-{base}-{method}-{seed}"
            try:
                about, compute = EXPERIMENTS[name].plan(self, base, method, seed)
                found[base, method, seed] = self.cell(cell, about, compute)
            except Exception as error:  # one cell that can't be run must not lose the others
                self.failures[cell] = f"{type(error).__name__}: {error}"
                self.say(f"failed: {cell}: {error}")
        return found

    def cell(self, name: str, about: Mapping[str, Any], compute: Callable[[], Figures]) -> Figures:
        """What one cell found, computed and written where it wasn't yet, or where its file is damaged."""
        about = _plain(about)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        place = self.location / CELLS / f"{name}-{digest}.json"
        try:
            content = json.loads(place.read_bytes()) if place.kind() == "file" else None
        except ValueError:
            content = None
        if (
            isinstance(content, dict)
            and content.get("about") == about
            and isinstance(content.get("found"), dict)
        ):
            return dict(content["found"])
        self.say(name)
        began = time.perf_counter()
        found = _plain(compute())
        found["seconds"] = round(time.perf_counter() - began, 2)
        place.write_bytes(json.dumps({"about": about, "found": found}, indent=1).encode())
        return found

    def searched(self, spec: SearchSpec, trajectory_rows: int = 0) -> SearchResult:
        """What a search finds."""
        frequencies = self.models.frequencies
        return run_search(spec, self.predictors, frequencies, trajectory_rows=trajectory_rows)

    def predicted(self, formulas: Collection[str]) -> dict[str, dict[str, float]]:
        """T_c of each formula in K by the search's model and by the oracle, E_f and, where phases were given, ΔE_hull
        in eV/atom. A formula with an element that the predictors don't know is left out.
        """
        texts = [text for text in dict.fromkeys(formulas) if not set(parse(text)) & self.models.foreign]
        if not texts:
            return {}
        x, oracle = parse_fractions(texts), self.models.oracle
        assert oracle is not None
        follow = self.predictors.following("resnet18")
        ef = predict(follow.ef, x.astype(np.float32))
        columns = {
            "tc_k": np.clip(predict(follow.tc, x.astype(np.float32)), 0, None),
            "tc_oracle_k": oracle.predict(x)[0],
            "ef_ev_per_atom": ef,
        }
        if self.models.hull is not None:
            columns["e_hull_ev_per_atom"] = self.models.hull.e_hull(x, ef)
        return {
            text: {name: float(values[row]) for name, values in columns.items()}
            for row, text in enumerate(texts)
        }


def _plain(values: Mapping[str, Any]) -> Figures:
    plain: Figures = json.loads(json.dumps(dict(values), allow_nan=False))
    return plain


def proposals(name: str, lab: Lab, base: str, method: str, seed: int) -> Plan:
    """Formulas that a method proposes from a base of the family `name`, judged by the paper's T_c predictor and
    screens (sections 3.4 to 3.6): T_c of the base in K, rates, screens and the best formulas.
    """
    family = comparison().families[name]
    judge = family.judge(base)
    about, amounts = _proposed(name, lab, base, method, seed)

    def compute() -> Figures:
        material = lab.models.base(judge)
        assert material is not None
        tc_k = {
            "tc_k": material.tc_predicted_k,
            "tc_oracle_k": material.tc_oracle_k,
            "tc_measured_k": material.tc_measured_k,
        }
        rows = judged_formulas(amounts(), judge, Models(lab.predictors, lab.models.oracle), name=method)
        return {"base": tc_k, **figures(rows, judge, family.bases[base])}

    return {"judge": judge.model_dump(mode="json"), **about}, compute


def _proposed(
    name: str, lab: Lab, base: str, method: str, seed: int
) -> tuple[dict[str, Any], Callable[[], Floats]]:
    """What decides the formulas that a method proposes; what finds them, (n, 118) in atoms, zeros for none."""
    family, size, count = comparison().families[name], lab.size, lab.size.candidates[name]
    if method in SEARCHES:
        steps = size.steps if method == "kiago" else size.ours_steps
        search = family.search(base, method, {"candidates": count, "steps": steps, "seed": seed})
        return {"search": search.model_dump(mode="json")}, lambda: lab.searched(search).amounts
    if method == "substitution":
        sites, keep, states = family.bases[base], family.keep, family.judge(base).oxidation_set
        supported = lab.predictors.supported.cpu().numpy()
        about = {"exchange": {"sites": sites, "keep": list(keep), "count": count}}
        return about, lambda: exchange(base, supported, states, sites=sites or None, keep=keep).rows(
            count, seed
        )
    weight = GUIDANCE_WEIGHT if method == "superdiff_cg" else 0.0
    about = {"superdiff": _sampling(lab, count, weight, size.diffusion_steps)}
    return about, lambda: diffused(lab, base, count, weight, seed, size.diffusion_steps).amounts


def guidance(lab: Lab, base: str, method: str, seed: int) -> Plan:
    """SuperDiff from one base with each of Table 4's weights of guidance, which take the methods' place: mean changes
    of T_c in K by cause, and the share of rows that pass.
    """
    count, steps, weight = lab.size.candidates["guidance"], lab.size.guidance_steps, float(method)
    judge = comparison().families["materials"].judge(base)

    def compute() -> Figures:
        samples = diffused(lab, base, count, weight, seed, steps, account=True)
        assert samples.changes is not None
        rows = judged_formulas(samples.amounts, judge, Models(lab.predictors))
        return {
            **mean_changes(samples.changes),
            "passed": float(np.mean(rows.table["passed"].to_numpy())),
            "statuses": samples.counts(),
        }

    sampling = _sampling(lab, count, weight, steps)
    return {"judge": judge.model_dump(mode="json"), "superdiff": sampling}, compute


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
    count, preset = lab.size.candidates["integers"], INTEGER_PRESETS[method]
    steps = lab.size.steps if method == "kiago" else lab.size.ours_steps
    firsts = [stage_1(preset, each, count, seed, steps[0]) for each in integer_groups(count)[base]]

    def compute() -> Figures:
        ends = [lab.searched(first) for first in firsts]
        x = np.concatenate([end.x_final[end.status == RowStatus.OK].astype(np.float64) for end in ends])
        x /= x.sum(axis=1, keepdims=True)
        follow, oracle = lab.predictors.following(firsts[0].tc_predictor), lab.models.oracle
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

    stages = [first.model_dump(mode="json") for first in firsts]
    return {"stage_1": stages, "stage_2": steps[1], "limits": list(INTEGER_LIMITS)}, compute


def integer_materials() -> tuple[str, ...]:
    """Table 1's 15 superconductors, which the paper doesn't name: Table 2's bases and seven of Table 5's."""
    return (*comparison().families["materials"].bases, *SITES_OF_INTEGERS)


def integer_groups(count: int) -> dict[str, tuple[str, ...]]:
    """Groups of the materials by name, each as many as fill a shard at `count` rows of each material."""
    materials = integer_materials()
    size = max(1, SHARD_ROWS // count)
    groups = [materials[at : at + size] for at in range(0, len(materials), size)]
    return {
        group[0] if len(group) == 1 else f"{len(group)}-materials-from-{group[0]}": group for group in groups
    }


def stage_1(preset: str, base: str, count: int, seed: int, steps: int) -> SearchSpec:
    """Stage 1 alone, its fractions kept as they are but for the limit of elements, so that conversions start from the
    same compositions.
    """
    changes = {"base": base, "candidates": count, "seed": seed, "steps": (steps, 0)}
    return load_preset(preset, {**changes, "projection": {"kind": "none", "neutral": False}})


def stage_2(preset: str, rows: Floats, limit: int, steps: int) -> SearchSpec:
    """Stage 2 alone from fractions (n, 118), with numbers of atoms up to `limit`. It knows no base."""
    formulas = [write({SYMBOLS[z]: float(row[z]) for z in np.flatnonzero(row > 1e-9)}) for row in rows]
    start = {"kind": "rows", "rows": formulas}
    return load_preset(preset, {"start": start, "steps": (0, steps), "n_unit.max": limit})


def _of_family(name: str, size: Size) -> list[tuple[str, str]]:
    return [(base, method) for base in comparison().families[name].bases for method in METHODS]


def _of_groups(size: Size) -> list[tuple[str, str]]:
    return [(group, method) for group in integer_groups(size.candidates["integers"]) for method in SEARCHES]


EXPERIMENTS: Mapping[str, Experiment] = {
    **{
        name: Experiment(partial(_of_family, name), partial(proposals, name))
        for name in ("materials", "sites", "hydrides")
    },
    "guidance": Experiment(
        lambda size: [(GUIDANCE_BASE, weight) for weight in comparison().tables["table4"].rows], guidance
    ),
    "starts": Experiment(lambda size: [(START_BASE, kind) for kind in STARTS], starts),
    "integers": Experiment(_of_groups, conversions),
}


def diffused(
    lab: Lab, base: str, count: int, weight: float, seed: int, steps: int = STEPS, *, account: bool = False
) -> Samples:
    """SuperDiff's samples around a base by ILVR, guided where `weight` isn't 0, with an account of T_c if asked.

    weight: of guidance, in the paper's unit (see GUIDANCE_ROWS), in a step of 1,000; with fewer steps each weighs
    as many times more, so that the whole of it stays.
    """
    follow = lab.predictors.following("resnet18")
    a_step = weight / GUIDANCE_ROWS * STEPS / steps
    return sample(
        lab.superdiff,
        count,
        base=parse_amounts(base),
        guidance=Guidance(follow.tc, follow.ef, alpha=GUIDANCE_ALPHA, weight=a_step) if weight else None,
        seed=seed,
        steps=steps,
        batch_rows=BATCH_ROWS if lab.device == "cpu" else DEVICE_BATCH_ROWS,
        device=lab.device,
        account=follow.tc if account else None,
    )


def _sampling(lab: Lab, count: int, weight: float, steps: int) -> dict[str, Any]:
    """What decides the outcome of `diffused`. Raises WeightsError where there is no model."""
    about = {
        "sha256": lab.superdiff.card["sha256"],
        "count": count,
        "scales": list(SCALE_FACTORS),
        "steps": steps,
    }
    guided = {"alpha": GUIDANCE_ALPHA, "weight": weight, "rows": GUIDANCE_ROWS} if weight else {}
    return {**about, **guided}


def rightly_substituted(amounts: Floats, base: str, element: str) -> Mask:
    """Section 3.5's two criteria on amounts (n, 118), (n,): each preserved element's share of the atoms lies
    within 1 % of what it is in the base, and so does the share of all others together, of the substituted element's;
    one of these at least is new.

    The base itself and rows of zeros fail.
    """
    x0 = fractions(parse(base))
    total = amounts.sum(axis=1, keepdims=True)
    x = amounts / np.where(total > 0, total, 1)
    preserved = x0 > 0
    preserved[INDEX[element]] = False
    kept = np.abs(x[:, preserved] - x0[preserved]) <= TOLERANCE * x0[preserved] + 1e-12
    share = x0[INDEX[element]]
    others = np.abs(x[:, ~preserved].sum(axis=1) - share) <= TOLERANCE * share + 1e-12
    new = (x[:, x0 == 0] > 0).any(axis=1)
    right: Mask = kept.all(axis=1) & others & new
    return right


def hydride_form(amounts: Floats) -> Mask:
    """Table 10's three conditions on amounts (n, 118), (n,): at least 40 % hydrogen, three elements or fewer, 15 atoms
    or fewer. Amounts that aren't whole count as they are written.
    """
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
    unique = ranked(table.set_column(place, table.schema.field(place), pa.array(passed)), Ranking("tc"))
    good = unique.filter(unique["passed"])
    return found | {
        "statuses": {name: count for name, count in rows.result.status_counts().items() if count},
        "unique": len(unique),
        "screens": {
            name: int(_mask(unique, name).sum()) for name in _SCREENS if unique[name].null_count < len(unique)
        },
        "passed": len(good),
        "best": good.select(list(_COLUMNS)).slice(0, BEST_ROWS).to_pylist(),
    }


def _mask(table: Any, column: str) -> Mask:
    mask: Mask = table[column].fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None
