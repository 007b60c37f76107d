"""Options and files of a search command as overrides of a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kiago_ray.cli.failures import InputError

MAX_SPEC_BYTES = 1_000_000


def read_spec(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; a run's spec.yaml counts by its `search` part. Raises InputError."""
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise InputError(f"--spec: {path} is larger than 1 MB; that is no specification")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--spec: can't read {path} ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--spec: {path} is not YAML ({error}); correct it") from None
    if isinstance(values, dict) and isinstance(values.get("search"), dict) and "identity" in values:
        values = values["search"]
    if not isinstance(values, dict):
        raise InputError(f"--spec: {path} holds no keys and values; write such as 'alpha: 4'")
    return values


def overrides_from(
    *,
    base: str | None,
    candidates: int | None,
    steps: str | None,
    seed: int | None,
    fixed: list[str],
    allow: str | None,
    forbid: str | None,
    max_elements: int | None,
    substitute: str | None,
    change: list[str],
) -> dict[str, Any]:
    """What was given, as dotted overrides; what wasn't is left out. Raises InputError."""
    given: dict[str, Any] = {
        "base": base,
        "candidates": candidates,
        "seed": seed,
        "max_elements": max_elements,
        "steps": None if steps is None else two_numbers(steps),
        "fixed": dict(pair(text, "--fixed", "O=0.25") for text in fixed) or None,
        "elements.allow": None if allow is None else symbols(allow),
        "elements.forbid": None if forbid is None else symbols(forbid),
        "substitute": None if substitute is None else site(substitute),
    }
    given |= dict(pair(text, "--set", "alpha=4") for text in change)
    return {key: value for key, value in given.items() if value is not None or key in _keys(change)}


def _keys(change: list[str]) -> set[str]:
    return {text.partition("=")[0].strip() for text in change}


def two_numbers(text: str) -> list[int]:
    """Such as 200,200."""
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--steps: {text!r} is not two whole numbers such as 200,200") from None
    return [first, second]


def pair(text: str, option: str, example: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as YAML reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option}: {text!r} is not KEY=VALUE such as {example}")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"{option}: the value of {text!r} can't be read; write such as {example}") from None


def symbols(text: str) -> list[str]:
    """Such as La,Ni,As,O."""
    return [part.strip() for part in text.split(",") if part.strip()]


def site(text: str) -> dict[str, int]:
    """Such as La:+3."""
    symbol, colon, state = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return {symbol.strip(): int(state)}
    except ValueError:
        raise InputError(f"--substitute: {text!r} is not a site and its state such as La:+3") from None
