"""Neutrality and the Pauling rule against SMACT: every verdict on many random formulas, and both rates.

Run it with `python benchmarks/neutrality.py --formulas 20000 --set smact14 --set icsd24`; it ends with 1
where a verdict differs. Times are CPU times; SMACT takes 1 to 3 ms a formula for its two verdicts.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version

import numpy as np
import smact
from numpy.typing import NDArray
from pymatgen.core.composition import Composition
from smact.screening import pauling_test, smact_validity

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.neutrality import Neutrality, check
from kiago_ray.chemistry.oxidation import OxidationSet

N_SMACT = 103  # SMACT knows no element beyond Lr


def random_counts(rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Formulas of 2 to 7 elements, equally many of each, with 1 to 12 atoms of each element.

    Half draw from all 103 elements. Half draw one to three of SMACT's anions and fill up with its metals:
    among formulas of the first kind hardly any has a chance to pass the Pauling rule.
    """
    anions = [INDEX[symbol] for symbol in smact.anions]
    metals = [INDEX[symbol] for symbol in smact.metals if symbol not in smact.anions]
    counts = np.zeros((rows, N_ELEMENTS), dtype=np.int64)
    for row in range(rows):
        n_elements = 2 + row % 6
        if rng.random() < 0.5:
            chosen = rng.choice(N_SMACT, n_elements, replace=False)
        else:
            n_anions = int(rng.integers(1, min(3, n_elements - 1) + 1))
            left = rng.choice(metals, n_elements - n_anions, replace=False)
            chosen = np.concatenate([left, rng.choice(anions, n_anions, replace=False)])
        counts[row, chosen] = rng.integers(1, 13, n_elements)
    return counts


def compare(counts: NDArray[np.int64], states: OxidationSet) -> int:
    """Print what both say about these formulas and how fast; the number of formulas on which they differ."""
    check(counts[:1], states)  # reads the tables once
    start = time.process_time()
    ours = check(counts, states)
    our_seconds = time.process_time() - start
    strict = check(counts, states, include_alloys=False)
    smact_seconds = np.zeros(8)
    differing = 0
    for row, amounts in enumerate(counts):
        present = np.flatnonzero(amounts)
        formula = Composition({SYMBOLS[z]: int(amounts[z]) for z in present})
        start = time.process_time()
        theirs = verdicts(formula, states)
        smact_seconds[len(present)] += time.process_time() - start
        mine = [ours.neutral[row], ours.pauling[row]]
        if ours.alloy[row]:  # accepted unseen: ask again without that
            theirs += verdicts(formula, states, include_alloys=False)
            mine += [strict.neutral[row], strict.pauling[row]]
        if mine != theirs or not certified(amounts, strict, row):
            differing += 1
            print(f"DIFFERS {formula.formula}: SMACT {theirs}, here {mine}", flush=True)
        if (row + 1) % 1000 == 0:
            print(f"{states}: {row + 1} of {len(counts)}, {differing} differ", file=sys.stderr, flush=True)
    n, seconds = len(counts), smact_seconds.sum()
    sizes = (counts > 0).sum(axis=1)
    each = ", ".join(f"{k}: {1e3 * smact_seconds[k] / (sizes == k).sum():.2f}" for k in range(2, 8))
    print(f"{states}: {n} formulas of 2 to 7 elements, {differing} disagreements")
    print(f"  neutral {ours.neutral.sum()}, Pauling {ours.pauling.sum()}, of these alloys {ours.alloy.sum()}")
    print(f"  without alloys neutral {strict.neutral.sum()}, Pauling {strict.pauling.sum()}")
    print(f"  SMACT     {n / seconds:8.0f} formulas/s; ms a formula by number of elements {each}")
    print(f"  kiago-ray {n / our_seconds:8.0f} formulas/s; {seconds / our_seconds:.0f} times SMACT's")
    return differing


def verdicts(formula: Composition, states: OxidationSet, include_alloys: bool = True) -> list[bool]:
    """SMACT's two verdicts: neutral, and neutral with the Pauling rule."""
    name = None if states is OxidationSet.ICSD24_FILTER else states.value
    return [
        smact_validity(
            formula, use_pauling_test=pauling, include_alloys=include_alloys, oxidation_states_set=name
        )
        for pauling in (False, True)
    ]


def certified(amounts: NDArray[np.int64], found: Neutrality, row: int) -> bool:
    """Whether SMACT finds the states given for one formula neutral, and in order where `pauling` says so."""
    if not found.assigned[row]:
        return not found.neutral[row]
    present = np.flatnonzero(amounts)
    given = [int(state) for state in found.states[row, present]]
    reduced = amounts[present] // np.gcd.reduce(amounts[present])
    neutral = bool(smact.neutral_ratios(given, stoichs=[[int(amount)] for amount in reduced]))
    scale = [oxidation.electronegativities()[z] for z in present]
    return neutral and (not found.pauling[row] or pauling_test(given, scale))


def milliseconds_for_ten(states: OxidationSet, rng: np.random.Generator) -> float:
    """Mean time for formulas of 10 elements that all have states, up to 25 atoms each."""
    known = [z for z, states_of_z in enumerate(oxidation.states(states)) if states_of_z]
    counts = np.zeros((200, N_ELEMENTS), dtype=np.int64)
    for row in counts:
        row[rng.choice(known, 10, replace=False)] = rng.integers(1, 26, 10)
    start = time.process_time()
    check(counts, states)
    return 1e3 * (time.process_time() - start) / len(counts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formulas", type=int, default=20_000)
    parser.add_argument("--set", action="append", type=OxidationSet, help="may be given more than once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = random_counts(options.formulas, np.random.default_rng(options.seed))
    print(f"SMACT {version('smact')}, seed {options.seed}")
    differing = 0
    for states in options.set or [OxidationSet.SMACT14, OxidationSet.ICSD24]:
        differing += compare(counts, states)
        ten = milliseconds_for_ten(states, np.random.default_rng(options.seed))
        print(f"  10 elements of up to 25 atoms each: {ten:.3f} ms a formula", flush=True)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
