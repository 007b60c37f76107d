"""What each method of rediscovery.py proposes: from all known systems at once, or from one base."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from past import Floats, Then
from scipy.special import ndtr

from kiago_ray.baselines.substitution import exchange
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import write
from kiago_ray.errors import InputError
from kiago_ray.plausibility.literature import Neighbours, elements_at_hand
from kiago_ray.plausibility.model import around, informed
from kiago_ray.screening.known import expected_improvement_k, trusted_tc_k
from kiago_ray.search import SearchSpec, SpecError, load_preset
from kiago_ray.search.open_rows import perturbed_row
from kiago_ray.search.problem import atoms_of, resolve, row_generator
from kiago_ray.search.result import SearchResult
from kiago_ray.search.run import run_search
from kiago_ray.search.spec import build_spec

LITERATURE = Path(__file__).parents[1] / "campaigns" / "literature.yaml"
PROPOSALS = 16
NEIGHBOURS = 30_000  # systems that a ranker of systems orders
JUDGED = 16_000  # rows, most plausible first, of which an improvement is worked out
MOST_LISTED = 60  # proposals of a base and source
WITHOUT_FAMILY = ("swap", "plus one", "made")


@dataclass(frozen=True)
class Task:
    """How much a method may propose from a base.

    search: `default` as it stands for the task, for its sources and its order; rows: in families, from all sources;
    optimised: of these at most by the gradient; steps: of its stages; open_rows: of a search over all elements; swaps:
    of a list of swaps.
    """

    search: SearchSpec
    rows: int
    optimised: int
    steps: tuple[int, int]
    open_rows: int
    swaps: int


def literature_task() -> Task:
    """As campaigns/literature.yaml has it."""
    campaign = yaml.safe_load(LITERATURE.read_text(encoding="utf-8"))
    search = build_spec(campaign["search"])
    return Task(search, campaign["candidates"], optimised=16, steps=search.steps, open_rows=2, swaps=8)


def base_task() -> Task:
    """As the preset default has it, with fewer rows and steps."""
    return Task(load_preset("default"), rows=96, optimised=48, steps=(10, 10), open_rows=16, swaps=64)


OPEN_STEPS = (20, 20)
SEARCHES: dict[str, dict[str, Any]] = {
    "open": {"preset": "open"},
    "paper": {"preset": "paper", "tc_predictor": "ensemble", "oxidation_set": "icsd24"},
    "random starts": {"preset": "open"},
}


@dataclass(frozen=True)
class Rows:
    """n proposals: fractions (n, 118), key (n,) to sort by, falling, and where each comes from."""

    fractions: Floats
    key: Floats
    source: NDArray[np.str_]

    @classmethod
    def of(cls, fractions: Floats, source: Sequence[str] | str, key: Floats | None = None) -> Rows:
        fractions = np.asarray(fractions, dtype=np.float64).reshape(-1, N_ELEMENTS)
        sources = np.full(len(fractions), source) if isinstance(source, str) else np.array(source, dtype=str)
        return cls(fractions, np.zeros(len(fractions)) if key is None else key, sources)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        if not parts:
            return cls.of(np.zeros((0, N_ELEMENTS)), "")
        return cls(
            np.concatenate([part.fractions for part in parts]),
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.source for part in parts]),
        )

    def best_first(self) -> Rows:
        return self.at(np.argsort(-self.key, kind="stable"))

    def at(self, index: Any) -> Rows:
        return Rows(self.fractions[index], self.key[index], self.source[index])


# --- the family search ---------------------------------------------------------------------------------------------


def numbers(task: Task, method: str) -> dict[str, int]:
    """How many rows of a base a variant of `default` takes from each source, by label. Without its family search it
    has the rows of the others alone, no more of them.
    """
    given = {source.replace("_", " "): round(share * task.rows) for source, share in task.search.sources}
    if method == "family only":
        return {label: task.optimised if label == "family" else 0 for label in given}
    return {**given, "family": 0} if method == "default without family" else given


def family_rows(then: Then, task: Task, seed: int, at: int) -> Rows:
    """What `default` has to choose from around one base, not yet judged: task.optimised rows of the gradient, then the
    lists of the other sources. Each row's key is its place in its source.
    """
    base = then.formulas[at]
    given = {"base": base, "candidates": task.optimised, "steps": list(task.steps), "seed": seed}
    sources = {"family": 1.0, "swap": 0.0, "plus_one": 0.0, "made": 0.0}
    spec = load_preset("default", {**given, "sources": sources, "precision": "float32"})
    try:
        substitutions = around(spec, then.prospects)
        problem = resolve(spec, then.models.predictors.supported.numpy(), substitutions)
        predictors = informed(spec, then.models.predictors, then.prospects, substitutions)
        found = run_search(
            spec, predictors, then.models.frequencies, trajectory_rows=0, substitutions=substitutions
        )
    except SpecError:  # nothing is known to replace anything of this base
        return Rows.joined([])
    rows, _ = fractions_of(found)
    parts = [Rows.of(rows, "family", np.arange(len(rows), dtype=np.float64))]
    assert problem.family is not None
    for label in WITHOUT_FAMILY:
        listed = np.array([atoms_of(each) for each in problem.family.lists[label][:MOST_LISTED]])
        if len(listed):
            number = np.arange(len(listed), dtype=np.float64)
            parts.append(Rows.of(listed / listed.sum(axis=1, keepdims=True), label, number))
    return Rows.joined(parts)


def fractions_of(found: SearchResult) -> tuple[Floats, NDArray[np.bool_]]:
    """The compositions of a search as fractions (m, 118), and which of its rows have one."""
    total = found.amounts.sum(axis=1)
    kept = total > 0
    return found.amounts[kept] / total[kept, None], kept


def of_sources(rows: Rows, task: Task, method: str) -> NDArray[np.bool_]:
    """Which of `family_rows` the method has; what a source lacks the family search of `default` makes up for."""
    given = numbers(task, method)
    if given["family"] and method == "default":
        there = {label: int((rows.source == label).sum()) for label in given}
        given["family"] += sum(max(given[each] - there[each], 0) for each in WITHOUT_FAMILY)
    limit = np.array([given[str(label)] for label in rows.source])
    return np.asarray(rows.key < limit)


def judged(
    then: Then, rows: Rows, task: Task, base: Floats | None = None, log_p: Floats | None = None
) -> tuple[Rows, Floats, Floats]:
    """The rows in the order of `default`; ln P, where it isn't given, and the expected improvement in K of each."""
    if not len(rows.key):
        return rows, np.zeros(0), np.zeros(0)
    log_p = then.prospects.log_probabilities(rows.fractions)[0] if log_p is None else log_p
    _, first = np.unique(np.round(rows.fractions, 6), axis=0, return_index=True)
    kept = np.sort(first)
    kept = kept[np.argsort(-log_p[kept], kind="stable")[:JUDGED]]
    rows, log_p = rows.at(kept), log_p[kept]
    tc, std, _, extrapolation = then.models.predictors.tc.estimates(rows.fractions)  # type: ignore[union-attr]
    oracle = then.models.oracle.predict(rows.fractions)[0]
    best, _ = then.models.known.best_nearby(rows.fractions, base=base)
    gain = expected_improvement_k(np.fmin(tc, oracle), std, np.nan_to_num(best, nan=0.0))
    sure = np.maximum(trusted_tc_k(tc, std, oracle, extrapolation), 0)
    order = task.search.screens
    key = log_p + np.log(gain + order.improvement_offset_k + order.improvement_tc_share * sure)
    best_first = np.argsort(-key, kind="stable")
    return replace(rows, key=key).at(best_first), log_p[best_first], gain[best_first]


# --- searches over all elements ------------------------------------------------------------------------------------


def searched(then: Then, method: str, number: int, seed: int, bases: Sequence[int]) -> Rows:
    """What searches over all elements propose, `number` rows a base, by trusted T_c; all run as rows of one search.
    The source of each is the number of its base.
    """
    allowed = then.models.predictors.supported.numpy()
    weights = then.models.frequencies["supercon"]
    spec = load_preset("default", {**SEARCHES[method], "steps": list(OPEN_STEPS)})
    starts = []
    for at in bases:
        for row in range(number):
            rng = row_generator(seed, f"{then.formulas[at]} {method}", row)
            if method == "random starts":
                start = np.zeros(N_ELEMENTS)
                start[rng.choice(np.flatnonzero(allowed), 4, replace=False)] = 1 - rng.random(4)
            else:
                start = perturbed_row(rng, then.bases[at], allowed, weights, spec.start)
            starts.append(start / start.sum())
    found = run_search(
        with_rows(spec, starts), then.models.predictors, then.models.frequencies, trajectory_rows=0
    )
    rows, kept = fractions_of(found)
    base = np.repeat(np.asarray(bases), number)[kept]
    return Rows.of(rows, [str(at) for at in base], trusted(then, rows))


def with_rows(spec: SearchSpec, starts: Sequence[Floats]) -> SearchSpec:
    """The search with these rows to start from, and no base."""
    formulas = tuple(formula_of(start) for start in starts)
    start = spec.start.model_copy(update={"kind": "rows", "rows": formulas})
    return spec.model_copy(update={"base": None, "start": start})


def formula_of(row: Floats) -> str:
    return write({SYMBOLS[z]: round(float(row[z]), 6) for z in np.flatnonzero(row > 1e-6)})


def trusted(then: Then, rows: Floats) -> Floats:
    tc, std, _, extrapolation = then.models.predictors.tc.estimates(rows)  # type: ignore[union-attr]
    return trusted_tc_k(tc, std, then.models.oracle.predict(rows)[0], extrapolation)


# --- swaps, and neighbours of known systems ------------------------------------------------------------------------


def swapped(base: Floats, elements: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    """The base with one element for another, (n, 118), and which for which (n, 2)."""
    pairs = [(a, c) for a in np.flatnonzero(base) for c in np.flatnonzero(elements & (base == 0))]
    rows = np.tile(base, (len(pairs), 1))
    for row, (a, c) in zip(rows, pairs, strict=True):
        row[c], row[a] = row[a], 0
    return rows, np.array(pairs).reshape(-1, 2)


def plain_swaps(then: Then, method: str, number: int, seed: int, bases: Sequence[int]) -> list[Rows]:
    """For each base its whole swaps: at random, by odds, or by the states of its elements (C-ES)."""
    odds, elements, parts = then.literature.swap_odds, elements_at_hand(), []
    supported = then.models.predictors.supported.numpy()
    for at in bases:
        rng = np.random.default_rng([seed, at])
        if method == "C-ES":
            try:
                rows = exchange(then.formulas[at], supported).rows(number, seed)
            except InputError:
                parts.append(Rows.joined([]))
                continue
            rows = np.unique(rows / rows.sum(axis=1, keepdims=True), axis=0)
            parts.append(Rows.of(rows, method, trusted(then, rows)))
            continue
        rows, pairs = swapped(then.bases[at], elements & supported)
        key = rng.random(len(rows))
        if method == "swaps by odds":
            key = odds[pairs[:, 0], pairs[:, 1]] + 1e-9 * key
        best = np.argsort(-key, kind="stable")[:number]
        parts.append(Rows.of(rows[best], method, key[best]))
    return parts


def of_neighbours(then: Then, found: Neighbours, method: str) -> Rows:
    """Systems next to known ones, with the most supported parent's best composition changed accordingly."""
    rows = best_of_systems(then)[found.parent].copy()
    at = np.arange(len(rows))
    portion = 0.2 if found.added else 1.0
    rows[at, found.new] = portion * rows[at, found.lost]
    rows[at, found.lost] -= rows[at, found.new]
    key = found.support
    if method == "swap sum x P10":
        tc, std, _ = then.models.predictors.tc.estimates(rows)  # type: ignore[union-attr]
        key = key * (1 - ndtr((10 - tc) / std))
    return Rows.of(rows, method, key)


def best_of_systems(then: Then) -> Floats:
    """Of each system of the literature the composition of highest T_c, (s, 118)."""
    order = np.lexsort((-then.literature.tc_k, then.literature.system))
    first = np.unique(then.literature.system[order], return_index=True)[1]
    return then.literature.fractions[order[first]]


# --- many bases in several processes -------------------------------------------------------------------------------


def stored(file: Path, make: Callable[[], Rows]) -> Rows:
    """The rows in a file, made where it isn't there yet."""
    if not file.exists():
        rows = make()
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez_compressed(stream, fractions=rows.fractions, key=rows.key, source=rows.source)
        part.replace(file)
    with np.load(file, allow_pickle=False) as found:
        return Rows(found["fractions"], found["key"], found["source"])


def spread(work: Callable[[int], Rows], items: Sequence[int], folder: Path, processes: int) -> list[Rows]:
    """What `work` makes of each item, in their order. Each is kept in a file of the folder, so that a run which was
    stopped goes on; forked processes share what was loaded before, whatever can be pickled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{item}.npz" for item in items]
    missing = [(item, file) for item, file in zip(items, files, strict=True) if not file.exists()]

    def turn(number: int) -> None:
        torch.set_num_threads(1)
        for item, file in missing[number::processes]:
            stored(file, partial(work, item))

    context = multiprocessing.get_context("fork")
    running = [context.Process(target=turn, args=(number,)) for number in range(processes if missing else 0)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    if failed := [each.exitcode for each in running if each.exitcode]:
        raise SystemExit(
            f"{folder.name}: {len(failed)} process(es) ended with {failed}; what is finished is kept"
        )
    return [stored(file, partial(work, item)) for item, file in zip(items, files, strict=True)]
