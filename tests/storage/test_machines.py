"""Kinds of machine: what is compared, counted and said."""

from __future__ import annotations

from importlib.metadata import version

import torch

from kiago_ray.storage.machines import differences, in_words, kinds_of, machine_here, mixed_remark

AMD = {
    "device": "cpu",
    "name": "AMD EPYC",
    "instructions": "AVX512",
    "auto_precision": "bfloat16",
    "torch": "2",
}
INTEL = {**AMD, "name": "Intel Xeon"}
OTHER = {**AMD, "torch": "3"}


def test_this_machine_is_told_by_what_decides_its_arithmetic() -> None:
    here = machine_here("cpu")
    assert here["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert here["torch"] == version("torch")
    assert here["auto_precision"] in ("bfloat16", "float32")
    assert differences(here, machine_here("cpu")) == ""


def test_only_what_is_known_of_both_is_compared() -> None:
    assert differences(INTEL, AMD) == "name Intel Xeon, not AMD EPYC"
    assert differences(OTHER, {**AMD, "shards": 4}) == "torch 3, not 2"
    assert differences({}, AMD) == differences(AMD, {}) == differences({"name": "AMD EPYC"}, AMD) == ""


def test_kinds_are_counted_the_most_first() -> None:
    kinds = kinds_of([{**INTEL, "shards": 2}, {**AMD, "shards": 3}, {"shards": 1}, {**INTEL, "shards": 2}])
    assert kinds == ({**INTEL, "shards": 4}, {**AMD, "shards": 3}, {"shards": 1})
    assert kinds_of(kinds) == kinds
    assert kinds_of([]) == ()


def test_words_leave_out_versions_that_are_the_same() -> None:
    one = kinds_of([{**AMD, "shards": 1}])
    assert in_words(one) == ["AMD EPYC, AVX512, bfloat16: 1 shard"]
    assert mixed_remark(one) == ""
    two = kinds_of([{**AMD, "shards": 1200}, {**OTHER, "shards": 1}])
    assert in_words(two)[0] == "AMD EPYC, AVX512, bfloat16, torch 2: 1,200 shards"
    assert mixed_remark(two).endswith("torch 2: 1,200 shards; AMD EPYC, AVX512, bfloat16, torch 3: 1 shard.")
    assert in_words([{"shards": 2}]) == ["not recorded: 2 shards"]
