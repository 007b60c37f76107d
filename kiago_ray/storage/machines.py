"""The kinds of machine on which rows were computed, by what of one can change a row's last bits: libraries choose
their instructions, and `precision: auto` its numbers, by the processor or the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from kiago_ray.predictors.base import step_precision
from kiago_ray.storage.run_directory import cpu_name

MACHINE = "machine"  # of what a manifest says of where it was made
SHARDS_OF = "shards"  # of a kind: how many were made there
_SHOWN = ("name", "instructions", "auto_precision")
_PLAIN = ("device", *_SHOWN)  # whose values tell what they are

Kind = Mapping[str, Any]
"""Name → value of what is compared (see `machine_here`), and of a counted one SHARDS_OF."""


def machine_here(device: str) -> dict[str, str]:
    """The kind of machine that this process is on, computing on `cpu` or `cuda`. A worker with a GPU judges its rows
    on the CPU, so that its instructions count too.
    """
    return {
        "device": device,
        "name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "auto_precision": step_precision("auto", torch.device(device)),
        **{package: version(package) for package in ("torch", "numpy", "lightgbm")},
    }


def kinds_of(counted: Iterable[Kind]) -> tuple[dict[str, Any], ...]:
    """The kinds among these, with the shards of each in all, those with the most first. What isn't known of one (older
    shards know nothing) is missing.
    """
    shards: Counter[tuple[tuple[str, str], ...]] = Counter()
    for each in counted:
        shards[tuple((name, str(each[name])) for name in each if name != SHARDS_OF)] += each[SHARDS_OF]
    return tuple({**dict(kind), SHARDS_OF: count} for kind, count in shards.most_common())


def differences(one: Kind, usual: Kind) -> str:
    """What of a machine isn't as usual, such as: instructions AVX2, not AVX512; "" where nothing is known to be so."""
    names = [name for name in usual if name in one and name != SHARDS_OF and one[name] != usual[name]]
    return ", ".join(f"{name} {one[name]}, not {usual[name]}" for name in names)


def mixed_remark(kinds: Sequence[Kind]) -> str:
    """What a person should know of rows that were computed on several kinds; "" of one."""
    if len(kinds) < 2:
        return ""
    told = "; ".join(in_words(kinds))
    return f"Rows were computed on {len(kinds)} kinds of machine and may differ by rounding: {told}."


def in_words(kinds: Sequence[Kind]) -> list[str]:
    """For a person, such as: AMD EPYC, AVX512, bfloat16: 8 shards. Versions are told where they differ."""
    names = [name for kind in kinds for name in kind if name != SHARDS_OF]
    differing = {name for name in names if len({kind.get(name) for kind in kinds}) > 1}
    told = [name for name in dict.fromkeys(names) if name in differing or name in _SHOWN]
    texts = []
    for kind in kinds:
        parts = [kind[name] if name in _PLAIN else f"{name} {kind[name]}" for name in told if name in kind]
        count = kind[SHARDS_OF]
        texts.append(f"{', '.join(parts) or 'not recorded'}: {count:,} shard{'' if count == 1 else 's'}")
    return texts
