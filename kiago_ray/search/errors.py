"""What is wrong with a search specification, in one line that a person can act on."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kiago_ray.errors import InputError


class SpecError(InputError):
    """A search that can't be run as specified. The message is one line: what is wrong, and what to do."""

    status = 422


def spec_error_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a failed validation of `model` in one line: the key, what is wrong, the value."""
    # An unknown key first: it often is what another, missing one was meant to be.
    problems = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    line = _line(problems[0], model)
    others = len(problems) - 1
    return line if not others else f"{line} (and {others} more)"


def _line(problem: Any, model: type[BaseModel]) -> str:
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_advice(path, model)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, got {reprlib.repr(problem['input'])}"
    return f"{key}: {message}" if key else message


def _advice(path: list[str], model: type[BaseModel]) -> str:
    """The nearest known key, or all of them, in the section that `path` ends in."""
    section = model
    for part in path[:-1]:
        field = section.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            return "remove it"
        section = sections[0]
    known = list(section.model_fields)
    close = difflib.get_close_matches(path[-1], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"the known keys are {', '.join(known)}"
