"""How well predicted energies tell stable from unstable: the plot of energies.md, from the card of the E_f ensemble.

Run it with `python benchmarks/energies.py`. The figures themselves come from `kiago train energies`, on a tenth of the
Materials Project's chemical systems that no member saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kiago_ray.predictors.weights import load_card
from kiago_ray.report.plots import new_figure

NAMES = {
    "ensemble": "ensemble",
    "extra_trees": "extremely randomised trees",
    "nearest_neighbour": "the nearest known",
    "elemnet": "ElemNet",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("figures") / "energies.png")
    options = parser.parse_args()
    card = load_card("ef_ensemble")
    figure, (axes,) = new_figure(5.5, 5.0)
    for name, label in NAMES.items():
        found = card["stability"][name]
        stable, unstable = zip(*found["pass_stable_and_unstable"].values(), strict=True)
        axes.plot(unstable, stable, label=f"{label}, AUC {found['auc']:.2f}")
    axes.axvline(0.35, color="black", linewidth=0.8, linestyle=":")
    axes.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set(xlabel="unstable compounds that pass", ylabel="stable compounds that pass")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(options.out, dpi=150)
    print(options.out)


if __name__ == "__main__":
    main()
