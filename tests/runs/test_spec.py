from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kiago_ray.runs.spec import CampaignSpec, LiteratureSpec, ResourcesSpec, recorded_campaign
from kiago_ray.search.sections import SpecError, validated

SMALL: dict[str, Any] = {"name": "small", "bases": ["LaNiAsO"]}

REFUSED = [
    ({"nme": "x"}, "nme: unknown key; did you mean 'name'?"),
    ({"name": "a/b"}, "name: 'a/b' can't name files"),
    ({**SMALL, "bases": ["LaX"]}, "bases.0: undetermined amount"),
    ({**SMALL, "bases": ["MgB2", "MgB2"]}, "bases: MgB2 is given twice"),
    ({**SMALL, "bases": ["MgB2", "B4Mg2"]}, "bases: B4Mg2 is given twice, as MgB2 before"),
    ({**SMALL, "grid": {"alpha": [4, 5, 4]}}, "grid: alpha: 4 is given twice"),
    ({**SMALL, "resources": {"cpus": 0.0001}}, "resources.cpus: "),
    ({**SMALL, "seeds": [1, 2, 1]}, "seeds: 1 is given twice"),
    ({**SMALL, "seeds": []}, "seeds: "),
    ({**SMALL, "seeds": [-1]}, "seeds.0: "),
    ({**SMALL, "shard_size": 0}, "shard_size: "),
    ({**SMALL, "shard_size": 1_000_000}, "shard_size: "),
    ({**SMALL, "candidates": 10**9}, "candidates: "),
    ({**SMALL, "grid": {"alpha": [4, 4.0]}}, "grid: alpha: 4 is given twice"),
    ({**SMALL, "grid": {"steps": [[40, 40], [40.0, 40]]}}, "grid: steps: [40, 40] is given twice"),
    ({**SMALL, "bases": ["YBCO"]}, "bases.0: name: 'YBCO' is a name (yttrium barium cuprates)"),
    ({**SMALL, "grid": {"alpha": []}}, "grid: alpha has no values"),
    ({**SMALL, "grid": {"alpha": [1]}, "variants": {"a": {}}}, "grid and variants can't be combined"),
    ({**SMALL, "variants": [{"name": "a"}, {"name": "a"}]}, "variants: two entries have the name 'a'"),
    ({**SMALL, "variants": ["a"]}, "variants: entry 1 is no mapping"),
    ({**SMALL, "variants": {"a b": {}}}, "variants.a b: 'a b' can't name files"),
    ({**SMALL, "search": {"seed": 3}}, "search: seed is what `seeds` of the campaign says"),
    ({**SMALL, "grid": {"base": ["MgB2"]}}, "grid: base is what `bases` of the campaign says"),
    ({**SMALL, "candidates": 9, "variants": {"a": {"candidates": 8}}}, "variants.a: candidates is what"),
    ({**SMALL, "resources": {"gpus": 1.5}}, "resources: gpus: 1.5 is neither a fraction"),
    ({**SMALL, "resources": {"device": "cuda"}}, "resources: device: cuda needs gpus"),
    ({**SMALL, "resources": {"cpu": 1}}, "resources.cpu: unknown key; did you mean 'cpus'?"),
    ({**SMALL, "bases": "litterature"}, "bases: give a list of formulas, literature, or"),
    ({**SMALL, "bases": {"literature": {}, "MgB2": {}}}, "bases: give a list of formulas, literature, or"),
    ({**SMALL, "literature": {}}, "bases and literature can't be combined"),
    (
        {**SMALL, "bases": {"literature": {"min_tc": 3}}},
        "literature.min_tc: unknown key; did you mean 'min_tc_k'?",
    ),
    ({**SMALL, "bases": {"literature": {"elements": ["Xx"]}}}, "literature.elements.0: "),
    ({**SMALL, "bases": {"literature": {"most": 0}}}, "literature.most: "),
    ({**SMALL, "bases": {"literature": {"min_tc_k": -1}}}, "literature.min_tc_k: "),
    ([1], "write a mapping of keys to values, not"),
]


@pytest.mark.parametrize(("values", "expected"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_is_wrong_is_told_in_one_line(values: Any, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        validated(CampaignSpec, values)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_a_list_of_variants_is_numbered_or_named() -> None:
    campaign = validated(CampaignSpec, {**SMALL, "variants": [{"alpha": 4}, {"name": "open", "alpha": 20}]})
    assert campaign.variants == {"1": {"alpha": 4}, "open": {"alpha": 20}}


def test_literature_is_named_or_described() -> None:
    plain = validated(CampaignSpec, {"name": "x", "bases": "literature"})
    assert plain.literature == LiteratureSpec()
    assert plain.bases == ()
    some = validated(
        CampaignSpec, {"name": "x", "bases": {"literature": {"min_tc_k": 10, "without": ["Hg"]}}}
    )
    assert some.literature == LiteratureSpec(min_tc_k=10, without=("Hg",))
    assert recorded_campaign(yaml.safe_load(yaml.safe_dump(some.defining()))).literature == some.literature


@pytest.mark.parametrize(
    ("resources", "device", "threads"),
    [
        ({}, "cpu", 1),
        ({"cpus": 0.5}, "cpu", 1),
        ({"cpus": 4, "gpus": 0.25}, "cuda", 4),
        ({"gpus": 1, "device": "cpu"}, "cpu", 1),
    ],
)
def test_threads_and_device_follow_from_the_resources(
    resources: dict[str, Any], device: str, threads: int
) -> None:
    found = ResourcesSpec(**resources)
    assert (found.torch_device, found.threads) == (device, threads)


LABELS = [
    ("ray.io/market-type", "spot"),
    ("ray.io/market-type", "!spot"),
    ("a", "in(x, y)"),
    ("a", "!in(x,y)"),
    ("a", "in(x)"),
    ("a", "in()"),
    ("a", "!!x"),
    ("a", "-x"),
    ("a", "x" * 63),
    ("a", "x" * 64),
    ("a", "x\n"),
    ("a" * 64, "x"),
    ("a b", "x"),
    ("-a/b", "x"),
    ("a..b/c", "x"),
    (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}/e", "x"),
    (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 62}/e", "x"),
]


@pytest.mark.parametrize(("label", "values"), LABELS)
def test_a_selector_is_taken_where_ray_takes_it(label: str, values: str) -> None:
    from ray._private.label_utils import validate_label_selector

    if validate_label_selector({label: values}) is None and ".." not in label:  # which Kubernetes refuses
        held = ResourcesSpec(label_selector={label: values}).label_selector
        assert held == {label: values.replace(" ", "")}  # with the space, Ray would look for it
        return
    with pytest.raises(SpecError) as caught:
        validated(CampaignSpec, {**SMALL, "resources": {"label_selector": {label: values}}})
    told = str(caught.value)
    assert told.startswith("resources.label_selector.")
    assert "\n" not in told
    assert "is no label to select nodes by" in told or "selects no values of a label" in told
    assert repr(label[:80]) in told or repr(values[:80]) in told


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (
            {"label_selector": {"a": True}},
            "resources.label_selector.a: input should be a valid string, got True",
        ),
        ({"label_selector": {"ray.io/node-id": "x"}}, "'ray.io/node-id' is no label to select nodes by"),
        ({"label_selector": {f"a{i}": "x" for i in range(21)}}, "at most 20 items"),
        ({"label_selector": {"a": f"in({', '.join(['x'] * 32)})"}}, "selects no values of a label"),
        ({"label_selector": {"a.a" * 5000: "x"}}, "is no label to select nodes by"),
        ({"accelerator_type": "A 100"}, "resources.accelerator_type: 'A 100' is no type of accelerator"),
        ({"accelerator_type": "A" * 64}, "is no type of accelerator"),
    ],
)
def test_what_selects_no_machines_is_refused_with_its_value(resources: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        validated(CampaignSpec, {**SMALL, "resources": resources})
    assert told in str(caught.value)
    assert len(str(caught.value)) < 20_000


def test_what_defines_a_campaign_leaves_out_how_it_is_run() -> None:
    one = validated(
        CampaignSpec,
        {
            **SMALL,
            "resources": {"cpus": 1.5, "memory_gb": 2, "label_selector": {"a": "b"}},
            "mixed_machines": "refuse",
        },
    )
    other = validated(CampaignSpec, {**SMALL, "resources": {"cpus": 1}})
    assert one.defining() == other.defining()
    assert (
        one.defining() != validated(CampaignSpec, {**SMALL, "resources": {"cpus": 2}}).defining()
    )  # rounding differs
    assert one.defining() != validated(CampaignSpec, {**SMALL, "resources": {"gpus": 1}}).defining()


@pytest.mark.parametrize("resources", [{}, {"cpus": 3}, {"gpus": 0.5}, {"gpus": 1, "device": "cpu"}])
def test_a_recorded_campaign_reads_back(resources: dict[str, Any]) -> None:
    campaign = validated(
        CampaignSpec, {**SMALL, "grid": {"alpha": [4, 20], "steps": [[2, 3]]}, "resources": resources}
    )
    values = yaml.safe_load(yaml.safe_dump(campaign.defining()))
    assert recorded_campaign(values).defining() == campaign.defining()


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: c\nbases: [MgB2]\nknown: data/primary.tsv\nweights: /else/where\n"
    )
    campaign = CampaignSpec.read(tmp_path / "c.yaml")
    assert campaign.known == str(tmp_path / "data" / "primary.tsv")
    for word in ("none", "landmarks", "supercon"):  # no files
        (tmp_path / "w.yaml").write_text(f"name: c\nbases: [MgB2]\nknown: {word}\n")
        assert CampaignSpec.read(tmp_path / "w.yaml").known == word
    assert campaign.weights == "/else/where"
    for named, read in (("mine.csv", str(tmp_path / "mine.csv")), ("shipped", "shipped"), ("none", "none")):
        (tmp_path / "t.yaml").write_text(f"name: c\nbases: [MgB2]\ntried: {named}\n")
        assert CampaignSpec.read(tmp_path / "t.yaml").tried == read


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [", "not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"name: c\ngrid: {alpha: &a [1], beta: *a}", "*aliases aren't taken"),
        (b"3", "a campaign is a mapping"),
        (b"name: c\nbases: [Zz]", "bases.0: "),
        (b"#" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_campaign_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        CampaignSpec.read(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_file_that_cant_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="can't be read"):
        CampaignSpec.read(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="can't be read"):
        CampaignSpec.read(tmp_path)
