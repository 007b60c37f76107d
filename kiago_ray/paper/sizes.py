"""How large the experiments are: the paper's size, or one for two cores and minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kiago_ray.errors import InputError
from kiago_ray.paper.tasks import MATERIALS

DIFFUSED = ("materials", "sites", "hydrides")
"""Experiments that SuperDiff takes part in."""
MAX_CANDIDATES, MAX_STEPS, MAX_SEEDS = 1_000_000, 20_000, 100
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Size:
    """candidates: formulas of each method from each base, by experiment. steps: of stage 1 and 2 of the
    paper's search. ours_steps: of ours. seeds: of the tables, whose figures are means over them. spread_seeds:
    of the spread (S.4), which is over spread_bases. start_steps: of Fig. 3.
    diffusion_steps: of SuperDiff; guidance_steps: of it in Table 4.
    """

    name: str
    candidates: Mapping[str, int]
    steps: tuple[int, int]
    ours_steps: tuple[int, int]
    start_steps: int
    diffusion_steps: int
    guidance_steps: int
    spread_bases: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    spread_seeds: tuple[int, ...] = (0, 1, 2)

    def words(self, experiment: str, *, seeds: Sequence[int] | None = None, searches: bool = False) -> str:
        """The size of one experiment in a sentence. seeds: those that are used, where not all. searches: whether no
        other method takes part.
        """
        steps, ours = ("{} + {}".format(*each) for each in (self.steps, self.ours_steps))
        used = self.seeds if seeds is None else seeds
        diffused = experiment in DIFFUSED and not searches
        diffusion = f"; SuperDiff: {self.diffusion_steps:,}" if diffused else ""
        return (
            f"{self.candidates[experiment]:,} candidates from each base and method, {steps} steps (ours: {ours}"
            f"{diffusion}), seed{'s' if len(used) > 1 else ''} {', '.join(map(str, used))}. The paper has 4,096 "
            f"and 500 + 500{' (1,000)' if diffusion else ''}."
        )


EXPERIMENTS = ("materials", "sites", "hydrides", "integers", "starts", "guidance")
FULL = Size("full", dict.fromkeys(EXPERIMENTS, 4096), (500, 500), (200, 200), 500, 1000, 1000, MATERIALS)
QUICK = Size(
    "quick",
    {"materials": 128, "sites": 64, "hydrides": 64, "integers": 32, "starts": 128, "guidance": 24},
    (80, 80),
    (50, 50),
    300,
    100,
    250,
    ("LaNiAsO", "LaPt2B2C", "HgBa2Ca2Cu3O8"),
)


def size_of(
    *,
    quick: bool,
    candidates: int | None = None,
    steps: tuple[int, int] | None = None,
    seeds: tuple[int, ...] | None = None,
) -> Size:
    """The size that a command asks for. Raises InputError."""
    size = QUICK if quick else FULL
    if candidates is not None:
        if not 1 <= candidates <= MAX_CANDIDATES:
            raise InputError(f"--candidates: {candidates} is not from 1 to {MAX_CANDIDATES:,}")
        size = replace(size, candidates=dict.fromkeys(EXPERIMENTS, candidates))
    if steps is not None:
        if min(steps) < 1 or max(steps) > MAX_STEPS:
            raise InputError(f"--steps: {steps[0]},{steps[1]}: each stage takes 1 to {MAX_STEPS:,} steps")
        size = replace(size, steps=steps, ours_steps=steps, start_steps=steps[0])
    if seeds is not None:
        different = len(set(seeds)) == len(seeds)
        if not 1 <= len(seeds) <= MAX_SEEDS or not different or not 0 <= min(seeds) <= max(seeds) <= MAX_SEED:
            raise InputError(
                f"--seeds: give 1 to {MAX_SEEDS} different whole numbers of 0 or more, such as 0,1,2"
            )
        size = replace(size, seeds=seeds, spread_seeds=seeds)
    if size is not FULL and size is not QUICK:
        size = replace(size, name=f"{size.name}, changed by options")
    return size
