"""CampaignSpec: which searches a campaign holds, how they are cut into shards, what a worker gets; and how such a
specification is read from a YAML file: bounded, without aliases, with paths that are relative to the file.

`bases: literature` stands for every known family once. The chemical system of a known superconductor's family follows
from its sites: elements with fractional amounts that are known to replace one another share one
(`search.problem.sites_of`), and of these the one with most of it counts. So
La1.85Sr0.15CuO4, La2CuO4 and La1.9Ba0.1CuO3.98 are of the family of La, Cu and O; LaFeAsO0.9F0.1 is of LaFeAsO's,
while SmFeAsO, whose place nobody shares by half, is of one of its own, as are MgB2 and NbSe2. Where all elements would
share one site it is an alloy, of which all but traces count: Nb0.78Sn0.22 and Nb3Sn are of one family.

For a family stands the composition with the most reports among those with at least half of its highest T_c. That
isn't the highest T_c itself: of a thousand compositions one or two are always misprints.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import pandas as pd
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data import TRIED_WORDS, WORDS
from kiago_ray.data.documents import DoubledKeyError, read_yaml_text
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.problem import Substitutions, sites_of
from kiago_ray.search.sections import Formula, Section, SpecError, Symbol, validated
from kiago_ray.search.spec import MAX_CANDIDATES
from kiago_ray.storage.location import check_slashes

LITERATURE = "literature"
MAX_FAMILIES = 10_000
_TRACE = 0.05  # share of an alloy's atoms below which an element doesn't tell
_WELL_BELOW = 0.5  # of a family's highest T_c, from which a composition may stand for it
ALONE = "search"  # the name of a search that no campaign holds
MAX_SEARCHES = 10_000
MAX_BYTES = 1_000_000  # of a file
_NOT_DEFINING = {"resources", "known", "tried", "weights", "concurrency", "shard_limit_s", "mixed_machines"}
MAX_LABELS, MAX_LABEL_PREFIX = 20, 253
# Labels of nodes and Ray's selectors of them: Ray refuses others. A node's id is another one each time it starts.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_PREFIX_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LABEL_NAME = rf"(?!ray\.io/node-id$)(?:{_PREFIX_PART}(?:\.{_PREFIX_PART}){{0,15}}/)?{_LABEL}"
_LABEL_VALUES = rf"!?{_LABEL}|!?in\({_LABEL}(?:, ?{_LABEL}){{0,30}}\)"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}"


def _usable_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            f"{name!r} can't name files; use up to 80 letters, digits and . _ + = - and begin with a letter or digit"
        )
    return name


def _usable_label(name: str) -> str:
    if not re.fullmatch(_LABEL_NAME, name) or len(name.rpartition("/")[0]) > MAX_LABEL_PREFIX:
        raise ValueError(f"{name[:80]!r} is no label to select nodes by; give one such as ray.io/market-type")
    return name


def _usable_values(values: str) -> str:
    if not re.fullmatch(_LABEL_VALUES, values):
        raise ValueError(
            f"{values[:80]!r} selects no values of a label; give spot, '!spot', 'in(a, b)' or '!in(a, b)'"
        )
    return values.replace(" ", "")  # Ray 2.60 would take " b" for the value


def _accelerator(name: str) -> str:
    if not re.fullmatch(_LABEL, name):
        raise ValueError(
            f"{name[:80]!r} is no type of accelerator; give Ray's name of one, such as A100 or H200"
        )
    return name


def _named(value: Any) -> Any:
    """A list of overrides as a mapping: each under its `name`, or numbered from 1."""
    if not isinstance(value, list):
        return value
    named: dict[str, Any] = {}
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, Mapping):
            raise ValueError(f"entry {number} is no mapping of keys to values, but {entry!r}")
        name = str(entry.get("name", number))
        if name in named:
            raise ValueError(f"two entries have the name {name!r}; give each its own")
        named[name] = {key: item for key, item in entry.items() if key != "name"}
    return named


Kind = TypeVar("Kind", bound=BaseModel)
Name = Annotated[str, AfterValidator(_usable_name)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Year = Annotated[int, Field(ge=1900, le=2200)]


class ResourcesSpec(Section):
    """What one worker gets of the cluster."""

    cpus: float = Field(default=1, ge=0.01, le=1024)
    """CPU cores. Its threads are the whole ones, at least 1."""
    gpus: float = Field(default=0, ge=0, le=64)
    """GPUs: a fraction lets workers share one, such as 0.25."""
    memory_gb: float | None = Field(default=None, gt=0, le=100_000)
    """Memory to reserve in Ray's books; null reserves none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes; auto is cuda with gpus, else cpu."""
    accelerator_type: Annotated[str, AfterValidator(_accelerator)] | None = None
    """Only on nodes with this accelerator, by Ray's name of it, such as A100 or H200; null takes any."""
    label_selector: dict[
        Annotated[str, AfterValidator(_usable_label)], Annotated[str, AfterValidator(_usable_values)]
    ] = Field(default_factory=dict, max_length=MAX_LABELS)
    """Only on nodes with these of Ray's labels: label → value, '!value', 'in(a, b)' or '!in(a, b)', such as
    {ray.io/market-type: spot}.
    """

    @property
    def threads(self) -> int:
        """CPU threads of a worker. Results depend on them by rounding."""
        return max(1, int(self.cpus))

    @property
    def torch_device(self) -> str:
        """`cpu` or `cuda`."""
        return ("cuda" if self.gpus else "cpu") if self.device == "auto" else self.device

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(
                f"gpus: {self.gpus:g} is neither a fraction of one GPU nor a whole number of them"
            )
        if self.device == "cuda" and not self.gpus:
            raise ValueError("device: cuda needs gpus above 0, such as gpus: 1")
        return self


class LiteratureSpec(Section):
    """Which of the known families a campaign searches around."""

    min_tc_k: float = Field(default=0.0, ge=0, le=1000)
    """Least T_c in K of the composition that stands for the family."""
    since: Year | None = None
    """Year from which its first superconductor was reported."""
    until: Year | None = None
    """Last such year."""
    elements: tuple[Symbol, ...] = Field(default=(), max_length=20)
    """Elements that all have to be in it."""
    without: tuple[Symbol, ...] = Field(default=(), max_length=118)
    """Elements of which none may be in it."""
    most: int | None = Field(default=None, ge=1, le=MAX_FAMILIES)
    """So many families, those with the most known compositions; null for all."""


class RunSpec(Section):
    """What the files of campaigns and of sweeps share."""

    what: ClassVar[str]
    name: Name
    """Names the run in reports and in MLflow."""
    search: dict[str, Any] = Field(default_factory=dict)
    """What all its searches share: a preset and overrides of it."""
    known: str | None = None
    """Compositions to hold the rows against: a CSV file with formula and tc_k, SuperCon's primary.tsv, landmarks or
    none; null is supercon, the shipped ones.
    """
    weights: str | None = None
    """Folder that `kiago train` wrote."""
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    """Of one worker, which runs one shard or trial at a time."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The specification in a YAML file; the paths in it are relative to it. Raises SpecError, in one line that
        names the file.
        """
        values = read_yaml(path, cls.what)
        try:
            spec = validated(cls, values)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error
        return with_paths(spec, path.parent)

    def overridden(self, gpus: float | None, **values: object) -> Self:
        """The specification with what a command says instead of its file, where that isn't None. Raises SpecError."""
        update = {name: value for name, value in values.items() if value is not None}
        if gpus is not None:
            resources = {**self.resources.model_dump(), "gpus": gpus}
            update["resources"] = validated(RunSpec, {"name": self.name, "resources": resources}).resources
        return self.model_copy(update=update)

    def defining(self) -> dict[str, Any]:
        """What decides the results, plain types alone: everything but what only says how it is run."""
        values = self.model_dump(mode="json", exclude=_NOT_DEFINING)
        return {**values, "threads": self.resources.threads, "device": self.resources.torch_device}


class CampaignSpec(RunSpec):
    """Every base × every variant × every seed is one search of `candidates` rows."""

    what: ClassVar = "campaign"
    bases: tuple[Formula, ...] = ()
    """Base materials; none for searches that start at random; literature for every known family once, or {literature:
    {min_tc_k: 10, without: [Hg, Tl]}} for some of them.
    """
    literature: LiteratureSpec | None = None
    """Which known families are the bases: what `bases: literature` sets."""
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Field of a search → its values; every combination is a variant."""
    variants: Annotated[dict[Name, dict[str, Any]], BeforeValidator(_named)] = Field(default_factory=dict)
    """Name → overrides, a preset among them if need be."""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, max_length=MAX_SEARCHES)
    """Each is a search of its own of every base and variant."""
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Rows a search; null leaves it to the search."""
    shard_size: int = Field(default=512, ge=1, le=65_536)
    """Rows that run together. Compare results of one value: it moves them by rounding."""
    shard_limit_s: float | None = Field(default=None, gt=0, le=1e7)
    """Seconds after which a shard's worker counts as hung: it is stopped and the shard runs elsewhere, one of its five
    tries. null is 20 × what shards usually take, and at least 600.
    """
    mixed_machines: Literal["warn", "refuse"] = "warn"
    """Where workers' machines (processor or GPU, instructions, what precision: auto stands for there, versions) differ
    from those of most finished shards, else of the first worker, rows may differ by rounding: warn says so, refuse
    leaves such machines out.
    """
    tried: str | None = None
    """What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with formula, tc_k
    (0: none found) and maybe down_to_k, shipped (a survey of 2009) or none; null is none.
    """

    @model_validator(mode="before")
    @classmethod
    def _literature_named(cls, values: Any) -> Any:
        """`bases: literature` as the section `literature`."""
        bases = values.get("bases") if isinstance(values, Mapping) else None
        if isinstance(bases, str):
            bases = {bases: None}
        if not isinstance(bases, Mapping):
            return values
        if set(bases) != {LITERATURE} or values.get(LITERATURE) is not None:
            raise ValueError("bases: give a list of formulas, literature, or {literature: {...}} alone")
        return {**values, "bases": (), LITERATURE: bases[LITERATURE] or {}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bases and self.literature is not None:
            raise ValueError("bases and literature can't be combined; give one of them")
        if self.grid and self.variants:
            raise ValueError("grid and variants can't be combined; give one of them")
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid: {key} has no values; give at least one, or remove it")
            check_once(f"grid: {key}", [*map(written, values)])
        check_once("seeds", self.seeds)
        check_compositions_once("bases", self.bases)
        places = {"search": self.search, "grid": self.grid}
        places |= {f"variants.{name}": overrides for name, overrides in self.variants.items()}
        own = {"base": "bases", "seed": "seeds"} | ({"candidates": "candidates"} if self.candidates else {})
        for key, place in itertools.product(own, places):
            if key in places[place]:
                raise ValueError(
                    f"{place}: {key} is what `{own[key]}` of the campaign says; give it there alone"
                )
        return self


def with_paths(spec: Kind, folder: Path) -> Kind:
    """A specification whose paths are relative to a folder; words and URIs stay as they are. Raises InputError."""
    words = {"data": (), "runs": (), "tokens": (), "known": WORDS, "tried": TRIED_WORDS, "weights": ()}
    named = {name: each for name in words if (each := getattr(spec, name, None)) is not None}
    for each in named.values():
        check_slashes(each)
    paths = {name: each for name, each in named.items() if each not in words[name] and "://" not in each}
    absolute = {name: str(folder / os.path.expanduser(each)) for name, each in paths.items()}
    return spec.model_copy(update=absolute)


def check_once(what: str, values: Sequence[Any]) -> None:
    """Raise ValueError for a value that is given twice."""
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise ValueError(f"{what}: {twice[0]} is given twice; give it once")


def check_compositions_once(what: str, formulas: Sequence[str]) -> None:
    """Raise ValueError for two formulas of one composition."""
    same: dict[tuple[float, ...], str] = {}
    for formula in formulas:
        composition = tuple(fractions(parse(formula)).round(9).tolist())
        if composition in same:
            raise ValueError(f"{what}: {formula} is given twice, as {same[composition]} before; give it once")
        same[composition] = formula


def written(value: Any) -> str:
    """A field's value as text, the same for equal ones: 4 and 4.0 are one value, True and 1 are two."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [*map(plain, value)]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps(plain(value), sort_keys=True, default=str)


def recorded_campaign(values: Mapping[str, Any]) -> CampaignSpec:
    """The campaign that `defining` wrote, as a run's spec.yaml has it. Raises SpecError."""
    own = {key: value for key, value in values.items() if key not in ("threads", "device")}
    device = values.get("device", "cpu")
    resources = {"cpus": values.get("threads", 1), "gpus": 1 if device == "cuda" else 0, "device": device}
    return validated(CampaignSpec, {**own, "resources": resources})


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The plain values of a YAML file; a `preset` that names a .yaml file beside it stands for that file's values.

    what: a campaign, for messages. Raises SpecError, in one line that names the file.
    """
    values = _with_presets(_plain(path, what), path.parent)
    if not isinstance(values, dict):
        raise SpecError(f"{path}: a {what} is a mapping of keys to values, such as 'alpha: 4'")
    return values


def is_preset_file(preset: Any) -> bool:
    """Whether a preset is given as a file."""
    return isinstance(preset, str) and preset.endswith((".yaml", ".yml"))


def read_preset(path: Path) -> dict[str, Any]:
    """The values of a preset's file, such as a sweep's best.yaml. Raises SpecError."""
    values = _plain(path, "preset")
    if not isinstance(values, dict) or is_preset_file(values.get("preset")):
        raise SpecError(f"{path}: a preset is a mapping of a search's fields to values, such as 'alpha: 4'")
    return values


def _with_presets(values: Any, folder: Path) -> Any:
    if isinstance(values, list):
        return [_with_presets(value, folder) for value in values]
    if not isinstance(values, dict):
        return values
    found = {key: _with_presets(value, folder) for key, value in values.items()}
    if is_preset_file(values.get("preset")):
        found["preset"] = read_preset(folder / os.path.expanduser(values["preset"]))
    return found


def _plain(path: Path, what: str) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: can't be read ({error.strerror}); check the path") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path}: larger than {MAX_BYTES:,} bytes; that is no {what}")
    try:
        text = content.decode("utf-8")
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
        values = None if aliased else read_yaml_text(text)
    except DoubledKeyError as error:
        raise SpecError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not YAML ({' '.join(str(error).split())[:200]}); correct it") from None
    if aliased:
        raise SpecError(f"{path}: *aliases aren't taken; write out what they stand for")
    return values


def known_families(materials: KnownMaterials, substitutions: Substitutions) -> pd.DataFrame:
    """The families of the known superconductors at ambient pressure, those with the most compositions first.

    A row has the composition that stands for a family (`base`), its `tc_k` in K, few reports weighed down
    (`improvement`), and its `reports`; the elements of the `system`; how many `compositions` are known, and the `year`
    of the first, NaN where unknown. substitutions: which elements replace one another at all, whatever stands beside
    them.
    """
    columns = {"base": materials.formulas, "tc_k": materials.weighed_tc_k, "reports": materials.reports}
    known = pd.DataFrame({**columns, "year": np.array(materials.year, dtype=np.float64)})
    known = known[known["tc_k"] > 0]
    systems = [family_system(formula, substitutions) for formula in known["base"]]
    known = known.assign(system=pd.Series(systems, known.index, dtype=object))
    family = known.groupby("system", sort=False)
    known = known.assign(compositions=family["base"].transform("size"), year=family["year"].transform("min"))
    known = known[known["tc_k"] >= _WELL_BELOW * family["tc_k"].transform("max")]
    best = known.sort_values(["reports", "tc_k", "base"], ascending=[False, False, True])
    order = ["compositions", "reports", "base"]
    return best.drop_duplicates("system").sort_values(order, ascending=[False, False, True])


def family_system(formula: str, substitutions: Substitutions) -> frozenset[str]:
    """The elements of a composition's family: of each site the one with most of it. Raises FormulaError."""
    amounts = parse(formula)
    sites = sites_of(amounts, substitutions)
    if len(sites) == 1:
        least = _TRACE * sum(amounts.values())
        return frozenset(symbol for symbol, amount in amounts.items() if amount >= least)
    return frozenset(SYMBOLS[site.own[0]] for site in sites)


def chosen_families(spec: LiteratureSpec, families: pd.DataFrame) -> pd.DataFrame:
    """Those that the specification asks for, in their order. Raises SpecError where there are none."""
    elements, without = set(spec.elements), set(spec.without)
    held = [set(parse(base)) for base in families["base"]]
    asked = np.array([each >= elements and not each & without for each in held])
    asked &= families["tc_k"] >= spec.min_tc_k
    if spec.since is not None or spec.until is not None:
        asked &= families["year"].between(spec.since or 0, spec.until or np.inf)
    found = families[asked][: spec.most]
    if found.empty:
        raise SpecError(
            f"bases: none of {len(families):,} known families is what literature asks for; ask for less"
        )
    return found
