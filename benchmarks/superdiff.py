"""The paper's Table 4 with our models: what denoising, ILVR and guidance do to T_c over the steps of SuperDiff.

    python benchmarks/superdiff.py HgBa2Ca2Cu3O8 --samples 64 --weights none 1e-3 1e-1 10

A column of samples costs two to three predictions a step beside the step itself. `--no-ilvr` leaves the base out.

Measured with the command above, one thread of a virtual AMD EPYC, T_c by the ResNet-18; the paper's rows beside it:

    weight  denoise    ILVR   guide    sum       the paper: weight  denoise     ILVR   guide    sum
    none       80.1    -5.9     0.0   74.2                  none       84.8     37.4     0.0  122.2
    1e-3      -28.7 -1092.2  1227.3  106.4                  1e-3       79.2     39.8     3.2  122.3
    1e-1     -182.4 -5796.8  6089.6  110.4                  1          -63.5 -1409.6  1611.0  137.9
    10         11.6  6411.9 -6322.7  100.8                  10        -101.7 -3945.1  4190.5  143.7

Guidance is pulled back by ILVR here as there, at weights some 500 times lower. At 10 the steps overshoot.
"""

from __future__ import annotations

import argparse
import time

import torch

from kiago_ray.baselines.superdiff import Guidance, load_superdiff, mean_changes, sample
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.predictors.weights import load_predictors


def main() -> None:
    """Print one row a weight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", nargs="+", default=["none", "1e-3", "1e-1", "10"])
    parser.add_argument("--no-ilvr", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model, predictors = load_superdiff(), load_predictors()
    tc = predictors.named("resnet18")
    base = None if chosen.no_ilvr else parse_amounts(chosen.base)
    print(
        "| weight | denoise (K) | ILVR (K) | guide (K) | sum (K) | T_c at the end (K) | under 10 elements | s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for weight in chosen.weights:
        guidance = None if weight == "none" else Guidance(tc, predictors.ef, weight=float(weight))
        began = time.monotonic()
        samples = sample(
            model,
            chosen.samples,
            base=base,
            guidance=guidance,
            seed=chosen.seed,
            steps=chosen.steps,
            account=tc,
        )
        seconds = time.monotonic() - began
        changes = samples.changes
        assert changes is not None
        means = mean_changes(changes)
        elements = (samples.amounts > 0).sum(axis=1)
        few = ((elements > 0) & (elements < 10)).mean()
        columns = [*(means[name] for name in ("denoise", "ilvr", "guide", "sum")), changes["end"].mean()]
        values = " | ".join(f"{value:.1f}" for value in columns)
        print(f"| {weight} | {values} | {few:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
