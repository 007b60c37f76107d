"""The shapes of answers, and errors as problem details (RFC 9457): what is wrong and what to do, and no secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import yaml
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from kiago_ray.data.documents import MOST_NESTED, DoubledKeyError, read_json_text
from kiago_ray.errors import KiagoError
from kiago_ray.search.sections import SpecError
from kiago_ray.storage.location import StorageError

STORAGE_RETRY_S = 10
BUSY_RETRY_S = 2
_MOST_ERRORS = 20
_TOO_DEEP = f"this JSON has more than {MOST_NESTED} levels"
_ADVICE = {
    404: "; the API is described at /docs",
    405: "; the API is described at /docs",
    413: "; send fewer formulas at a time",
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

log = logging.getLogger("kiago_ray.service")


@cache
def _examples() -> dict[str, Any]:
    """An example of most shapes, by its name."""
    text = files("kiago_ray.service").joinpath("examples.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _add_example(schema: dict[str, Any], shape: type[BaseModel]) -> None:
    if example := _examples().get(shape.__name__):
        schema["example"] = example


class Shape(BaseModel, extra="forbid", json_schema_extra=_add_example):
    """The shape of a body, with its example of examples.yaml in the description of the API."""


class Problem(Shape):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="One line: what is wrong, and what to do.")
    instance: str
    request_id: str = Field(description="As in the header X-Request-Id and in the service's log.")
    errors: list[dict[str, str]] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, beside those that any of /v1 may."""
    return {
        status: {"model": Problem, "content": {"application/problem+json": {}}}
        for status in sorted({400, 401, 403, 408, 413, 429, 500, 503, *statuses})
    }


@dataclass(eq=False)
class ProblemError(KiagoError):
    """A request that can't be answered as asked. detail: one line. errors: each with `where` and `message`."""

    status: int = field()  # no default, though KiagoError has one
    detail: str
    retry_after_s: int | None = None
    errors: list[dict[str, str]] | None = None
    headers: Mapping[str, str] | None = None

    def __str__(self) -> str:
        return self.detail

    @classmethod
    def at(cls, where: str, message: str) -> ProblemError:
        """A part of a request that isn't valid, 422."""
        return cls(422, f"{where}: {message}", errors=[{"where": where, "message": message}])

    def response(self, scope: Scope) -> Response:
        """The answer to the request of an ASGI scope, to which the guard has given a `request_id`."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": scope["path"],
            "request_id": scope["state"]["request_id"],
            **({"errors": self.errors} if self.errors else {}),
        }
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        text = writable(json.dumps(body, ensure_ascii=False))
        return Response(text, self.status, {**headers, **(self.headers or {})}, "application/problem+json")


def writable(text: str) -> str:
    """The text with a question mark for what UTF-8 can't hold: JSON may carry halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def json_of(body: bytes, example: str) -> Any:
    """What a body of JSON holds. Raises ProblemError with an example of one."""
    try:
        return read_json_text(body)
    except DoubledKeyError as error:
        raise ProblemError.at("body", str(error)) from None
    except ValueError:
        raise ProblemError.at("body", f"this is no JSON; send such as {example}") from None
    except RecursionError:
        raise ProblemError.at("body", f"{_TOO_DEEP}; send such as {example}") from None


class StrictRoute(APIRoute):
    """A route whose body of JSON has every key once."""

    def get_route_handler(self) -> Handler:
        """The handler of a request, which reads its body strictly."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


class StrictRequest(Request):
    """A request whose body of JSON has every key once."""

    async def json(self) -> Any:
        """The body. Raises HTTPException, 422, which FastAPI lets pass."""
        try:
            return read_json_text(await self.body())
        except DoubledKeyError as error:
            raise HTTPException(422, f"body: {error}") from None
        except ValueError:  # bytes that are no UTF-8 among them
            raise HTTPException(422, "body: this is no JSON; send JSON in UTF-8") from None
        except RecursionError:
            raise HTTPException(422, f"body: {_TOO_DEEP}") from None


def handle_problems(app: FastAPI) -> None:
    """Let every error of `app` that was foreseen end as a problem; the guard answers for the others."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error).response(request.scope)

    for kind in (KiagoError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def problem_of(error: Exception) -> ProblemError:
    """What a client learns of an error. Raises one whose message is for the operator alone."""
    match error:
        case ProblemError():
            return error
        case StorageError():
            log.error("storage: %s", error)  # it names a place, which is nobody's business outside
            advice = "the service's storage can't be used now; try again later"
            return ProblemError(error.status, advice, retry_after_s=STORAGE_RETRY_S)
        case SpecError():
            where = str(error).partition(":")[0]
            return ProblemError(error.status, str(error), errors=[{"where": where, "message": str(error)}])
        case KiagoError() if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProblemError(error.status, str(error))
        case RequestValidationError():
            places = [(".".join(map(str, each["loc"])), str(each["msg"])) for each in error.errors()]
            found = [{"where": where, "message": message} for where, message in places[:_MOST_ERRORS]]
            return ProblemError(422, ": ".join(places[0]), errors=found)
        case HTTPException():
            advice = _ADVICE.get(error.status_code, "")
            return ProblemError(error.status_code, f"{error.detail}{advice}", headers=error.headers)
    raise error
