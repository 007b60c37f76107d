"""The experiments whose cells the tables are made of: what is run for a base, a method and a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.api import judged_formulas
from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, Samples, sample
from kiago_ray.baselines.superdiff.network import STEPS
from kiago_ray.baselines.superdiff.sampling import BATCH_ROWS, SCALE_FACTORS
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import parse_amounts, write
from kiago_ray.models import Models
from kiago_ray.paper.criteria import figures
from kiago_ray.paper.declarations import METHODS, SEARCHES, Size, comparison
from kiago_ray.paper.lab import Experiment, Figures, Lab
from kiago_ray.search import load_preset
from kiago_ray.search.integers import rounded_counts
from kiago_ray.search.result import RowStatus
from kiago_ray.search.run import SHARD_ROWS, given_result, run_search

if TYPE_CHECKING:
    from kiago_ray.search import SearchSpec
    from kiago_ray.search.result import SearchResult

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

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposals:
    """Formulas that each method proposes from each base of a family, judged by the paper's T_c predictor and screens
    (sections 3.4 to 3.6).
    """

    name: str

    def pairs(self, size: Size) -> Sequence[tuple[str, str]]:
        """Every base with every method."""
        return [(base, method) for base in comparison().families[self.name].bases for method in METHODS]

    def about(self, lab: Lab, base: str, method: str, seed: int) -> Mapping[str, Any]:
        """The judge, and what decides what the method proposes."""
        family = comparison().families[self.name]
        count = lab.size.candidates[self.name]
        judge = {"judge": family.judge(base).model_dump(mode="json")}
        if method in SEARCHES:
            return judge | {"search": self._search(lab, base, method, seed).model_dump(mode="json")}
        if method == "substitution":
            exchanged = {"sites": family.bases[base], "keep": list(family.keep), "count": count}
            return judge | {"exchange": exchanged}
        return judge | _sampling(lab, count, _weight(method), lab.size.diffusion_steps)

    def run(self, lab: Lab, base: str, method: str, seed: int) -> Figures:
        """T_c of the base in K, rates, screens and the best formulas."""
        family = comparison().families[self.name]
        judge = family.judge(base)
        material = lab.models.base(judge)
        assert material is not None
        amounts = self.amounts(lab, base, method, seed)
        judging = Models(lab.predictors, lab.oracle)
        rows = judged_formulas(amounts, judge, judging, name=method)
        tc_k = {
            "tc_k": material.tc_predicted_k,
            "tc_oracle_k": material.tc_oracle_k,
            "tc_measured_k": material.tc_measured_k,
        }
        return {"base": tc_k, **figures(rows, judge, family.bases[base])}

    def amounts(self, lab: Lab, base: str, method: str, seed: int) -> Floats:
        """The formulas that a method proposes, (n, 118) in atoms; zeros where a search's row has none."""
        family = comparison().families[self.name]
        count = lab.size.candidates[self.name]
        if method in SEARCHES:
            return _searched(lab, self._search(lab, base, method, seed)).amounts
        if method == "substitution":
            supported = lab.predictors.supported.cpu().numpy()
            states = family.judge(base).oxidation_set
            sites = family.bases[base] or None
            return exchange(base, supported, states, sites=sites, keep=family.keep).rows(count, seed)
        return diffused(lab, base, count, _weight(method), seed, lab.size.diffusion_steps).amounts

    def _search(self, lab: Lab, base: str, method: str, seed: int) -> SearchSpec:
        steps = lab.size.steps if method == "kiago" else lab.size.ours_steps
        changes = {"candidates": lab.size.candidates[self.name], "steps": steps, "seed": seed}
        return comparison().families[self.name].search(base, method, changes)


@dataclass(frozen=True)
class GuidanceWeights:
    """SuperDiff from one base with each of Table 4's weights of guidance, which take the methods' place."""

    name: str = "guidance"

    def pairs(self, size: Size) -> Sequence[tuple[str, str]]:
        """The base with every weight that the paper has."""
        return [(GUIDANCE_BASE, weight) for weight in comparison().tables["table4"].rows]

    def about(self, lab: Lab, base: str, method: str, seed: int) -> Mapping[str, Any]:
        """The judge and the diffusion."""
        judge = comparison().families["materials"].judge(base).model_dump(mode="json")
        count = lab.size.candidates[self.name]
        return {"judge": judge, **_sampling(lab, count, float(method), lab.size.guidance_steps)}

    def run(self, lab: Lab, base: str, method: str, seed: int) -> Figures:
        """Mean changes of T_c in K by cause, and the share of rows that pass."""
        count, steps = lab.size.candidates[self.name], lab.size.guidance_steps
        samples = diffused(lab, base, count, float(method), seed, steps, account=True)
        assert samples.changes is not None
        judge = comparison().families["materials"].judge(base)
        rows = judged_formulas(samples.amounts, judge, Models(lab.predictors))
        return {
            **{name.removesuffix("_k"): value for name, value in samples.changes.means().items()},
            "passed": float(np.mean(rows.verdicts.passed)),
            "statuses": samples.counts(),
        }


@dataclass(frozen=True)
class Starts:
    """Stage 1 from an existing superconductor with noise and from random compositions (section 3.2, Fig. 3)."""

    name: str = "starts"

    def pairs(self, size: Size) -> Sequence[tuple[str, str]]:
        """The base with both kinds of start."""
        return [(START_BASE, kind) for kind in STARTS]

    def about(self, lab: Lab, base: str, method: str, seed: int) -> Mapping[str, Any]:
        """The search."""
        return {"search": self._search(lab, base, method, seed).model_dump(mode="json")}

    def run(self, lab: Lab, base: str, method: str, seed: int) -> Figures:
        """T_c in K over the steps: mean and deciles over rows, some single rows; and of the last step the best T_c
        and the share of rows at 0 K.
        """
        spec = self._search(lab, base, method, seed)
        path = _searched(lab, spec, trajectory_rows=spec.candidates).trajectory
        summary = path.summary()
        steps = np.unique(np.linspace(0, len(path.stage) - 1, CURVE_POINTS).round().astype(int))
        curves = {name: summary[f"tc_k_{name}"][steps].tolist() for name in ("mean", "p10", "p50", "p90")}
        single = np.nan_to_num(path.tc_k[steps, :SINGLE_ROWS].T.astype(np.float64)).round(3)
        last = path.tc_k[-1][np.isfinite(path.tc_k[-1])].astype(np.float64)
        return {
            "steps": steps.tolist(),
            **curves,
            "rows": single.tolist(),
            "best": float(last.max()) if len(last) else None,
            "zero": float((last <= 0).mean()) if len(last) else None,
        }

    def _search(self, lab: Lab, base: str, method: str, seed: int) -> SearchSpec:
        changes = {
            "base": base,
            "candidates": lab.size.candidates[self.name],
            "seed": seed,
            "steps": (lab.size.start_steps, 0),
            "learning_rate": START_LEARNING_RATE,
            "start.kind": "perturb" if method == "existing" else "random",
        }
        return load_preset("paper", changes)


@dataclass(frozen=True)
class Conversions:
    """Conversion to integers by the loss against rounding (sections 2.6 and 3.3, Table 1). A cell's base is a group of
    materials whose stages 2 run together.
    """

    name: str = "integers"

    def pairs(self, size: Size) -> Sequence[tuple[str, str]]:
        """Every group with both searches."""
        return [
            (group, method) for group in integer_groups(size.candidates[self.name]) for method in SEARCHES
        ]

    def about(self, lab: Lab, base: str, method: str, seed: int) -> Mapping[str, Any]:
        """The searches of stage 1, the steps of stage 2 and its limits."""
        return {
            "stage_1": [first.model_dump(mode="json") for first in self._firsts(lab, base, method, seed)],
            "stage_2": self._steps(lab, method)[1],
            "limits": list(INTEGER_LIMITS),
        }

    def run(self, lab: Lab, base: str, method: str, seed: int) -> Figures:
        """Mean changes of T_c in K from the end of stage 1, by limit: of the loss and of rounding, by the search's
        model and by the oracle.
        """
        firsts = self._firsts(lab, base, method, seed)
        ends = [_searched(lab, first) for first in firsts]
        x = np.concatenate([end.x_final[end.status == RowStatus.OK].astype(np.float64) for end in ends])
        x /= x.sum(axis=1, keepdims=True)
        follow = lab.predictors.following(firsts[0].tc_predictor)
        oracle = lab.oracle
        before = np.asarray(given_result(x, follow).tc_k, dtype=np.float64)
        before_oracle = oracle.predict(x)[0]
        changes = {}
        for limit in INTEGER_LIMITS:
            second = stage_2(INTEGER_PRESETS[method], x, limit, self._steps(lab, method)[1])
            ways = {
                "loss": _searched(lab, second).amounts,
                "rounding": rounded_counts(x, limit).astype(np.float64),
            }
            change: dict[str, float | int | None] = {}
            for way, amounts in ways.items():
                some = amounts.any(axis=1)
                shares = amounts[some] / amounts[some].sum(axis=1, keepdims=True)
                change[way] = _mean(given_result(amounts[some], follow).tc_k - before[some])
                change[f"{way}_oracle"] = _mean(oracle.predict(shares)[0] - before_oracle[some])
                change[f"{way}_rows"] = int(some.sum())
            changes[str(limit)] = change
        return {"rows": len(x), "before_k": _mean(before), "changes": changes}

    def _steps(self, lab: Lab, method: str) -> tuple[int, int]:
        return lab.size.steps if method == "kiago" else lab.size.ours_steps

    def _firsts(self, lab: Lab, base: str, method: str, seed: int) -> list[SearchSpec]:
        count, steps = lab.size.candidates[self.name], self._steps(lab, method)[0]
        preset = INTEGER_PRESETS[method]
        return [stage_1(preset, material, count, seed, steps) for material in integer_groups(count)[base]]


EXPERIMENTS: Mapping[str, Experiment] = {
    **{name: Proposals(name) for name in ("materials", "sites", "hydrides")},
    **{each.name: each for each in (GuidanceWeights(), Starts(), Conversions())},
}


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
    changes = {
        "base": base,
        "candidates": count,
        "seed": seed,
        "steps": (steps, 0),
        "projection": {"kind": "none", "neutral": False},
    }
    return load_preset(preset, changes)


def stage_2(preset: str, rows: Floats, limit: int, steps: int) -> SearchSpec:
    """Stage 2 alone from fractions (n, 118), with numbers of atoms up to `limit`. It knows no base."""
    formulas = [
        write({SYMBOLS[z]: float(row[z]) for z in np.flatnonzero(row > 1e-9)}) for row in np.asarray(rows)
    ]
    start = {"kind": "rows", "rows": formulas}
    return load_preset(preset, {"start": start, "steps": (0, steps), "n_unit.max": limit})


def diffused(
    lab: Lab, base: str, count: int, weight: float, seed: int, steps: int = STEPS, *, account: bool = False
) -> Samples:
    """SuperDiff's samples around a base by ILVR, guided where `weight` isn't 0, with an account of T_c if asked.

    weight: of guidance, in the paper's unit (see GUIDANCE_ROWS), in a step of 1,000; with fewer steps each weighs
    as many times more, so that the whole of it stays.
    """
    follow = lab.predictors.following("resnet18")
    a_step = weight / GUIDANCE_ROWS * STEPS / steps
    guidance = Guidance(follow.tc, follow.ef, alpha=GUIDANCE_ALPHA, weight=a_step)
    return sample(
        lab.superdiff,
        count,
        base=parse_amounts(base),
        guidance=guidance if weight else None,
        seed=seed,
        steps=steps,
        batch_rows=BATCH_ROWS if lab.device == "cpu" else DEVICE_BATCH_ROWS,
        device=lab.device,
        account=follow.tc if account else None,
    )


def _sampling(lab: Lab, count: int, weight: float, steps: int) -> dict[str, Any]:
    """What decides the outcome of `diffused`. Raises WeightsError where there is no model."""
    sha256 = lab.superdiff.card["sha256"]
    about = {"sha256": sha256, "count": count, "scales": list(SCALE_FACTORS), "steps": steps}
    guided = {"alpha": GUIDANCE_ALPHA, "weight": weight, "rows": GUIDANCE_ROWS} if weight else {}
    return {"superdiff": {**about, **guided}}


def _weight(method: str) -> float:
    return GUIDANCE_WEIGHT if method == "superdiff_cg" else 0.0


def _searched(lab: Lab, spec: SearchSpec, trajectory_rows: int = 0) -> SearchResult:
    frequencies = lab.models.frequencies
    return run_search(spec, lab.predictors, frequencies, device=lab.device, trajectory_rows=trajectory_rows)


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None
