"""Specifications in YAML files: bounded, without aliases, and with paths that are relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from kiago_ray.data import TRIED_WORDS, WORDS
from kiago_ray.search.errors import SpecError

MAX_BYTES = 1_000_000

Spec = TypeVar("Spec", bound=BaseModel)


def read_yaml(path: Path, what: str) -> Any:
    """The plain values of a YAML file; a `preset` that names a .yaml file beside it stands for that file's values.

    what: a campaign, for messages. Raises SpecError, in one line that names the file.
    """
    return _with_presets(_plain(path, what), path.parent)


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
    return {
        key: read_preset(folder / Path(value).expanduser())
        if key == "preset" and is_preset_file(value)
        else _with_presets(value, folder)
        for key, value in values.items()
    }


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
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise SpecError(f"{path}: *aliases aren't taken; write out what they stand for")
        return yaml.safe_load(text)
    except SpecError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not YAML ({' '.join(str(error).split())[:200]}); correct it") from None


def beside(path: Path, spec: Spec) -> Spec:
    """The specification with `known`, `tried` and `weights`, where they are paths, taken from the file's folder."""
    words: dict[str, tuple[str, ...]] = {"known": WORDS, "tried": TRIED_WORDS, "weights": ()}
    return spec.model_copy(
        update={
            name: str(path.parent / Path(named).expanduser())
            for name in words
            if (named := getattr(spec, name, None)) is not None and named not in words[name]
        }
    )
