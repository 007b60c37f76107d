"""Errors as problem details (RFC 9457): what is wrong and what to do, and nothing of what is inside."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from kiago_ray.errors import KiagoError
from kiago_ray.search.sections import SpecError
from kiago_ray.storage.location import StorageError

STORAGE_RETRY_S = 10
BUSY_RETRY_S = 2
_MOST_ERRORS = 20
_ADVICE = {
    404: "; the API is described at /docs",
    405: "; the API is described at /docs",
    413: "; send fewer formulas at a time",
}

log = logging.getLogger("kiago_ray.service")

T = TypeVar("T")


class ProblemError(KiagoError):
    """A request that can't be answered as asked.

    detail: one line. retry_after_s: when to come back. errors: each with `where` and `message`.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: int | None = None,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    @classmethod
    def at(cls, where: str, message: str) -> ProblemError:
        """A part of a request that isn't valid, 422."""
        return cls(422, f"{where}: {message}", errors=[{"where": where, "message": message}])

    def response(self, scope: Scope) -> Response:
        """The answer to the request of an ASGI scope, to which the guard has given a `request_id`."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": writable(self.detail),
            "instance": writable(scope["path"]),
            "request_id": scope["state"]["request_id"],
        }
        if self.errors:
            body["errors"] = [{key: writable(value) for key, value in each.items()} for each in self.errors]
        return JSONResponse(body, self.status, self.headers, "application/problem+json")


def writable(text: str) -> str:
    """The text with a question mark for what UTF-8 can't hold: JSON may carry halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def json_of(body: bytes, example: str) -> Any:
    """What a body of JSON holds. Raises ProblemError with an example of one."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProblemError.at("body", f"this is no JSON; send such as {example}") from None


async def answered(asked: Awaitable[T], timeout_s: float) -> T:
    """What is answered in time. Raises ProblemError, 504."""
    try:
        return await asyncio.wait_for(asked, timeout_s)
    except TimeoutError:
        late = f"no answer within {timeout_s:g} s; send fewer formulas at a time"
        raise ProblemError(504, late, retry_after_s=BUSY_RETRY_S) from None


def handle_problems(app: FastAPI) -> None:
    """Let every error of `app` that was foreseen end as a problem; the guard answers for the others."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem is None:
            raise error
        return problem.response(request.scope)

    for kind in (KiagoError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def problem_of(error: Exception) -> ProblemError | None:
    """What a client learns of an error; None for one whose message is for the operator alone."""
    match error:
        case ProblemError():
            return error
        case StorageError():
            log.error("storage: %s", error)  # it names a place, which is nobody's business outside
            advice = "the service's storage can't be used now; try again later"
            return ProblemError(error.status, advice, retry_after_s=STORAGE_RETRY_S)
        case SpecError():
            field = str(error).partition(":")[0]
            return ProblemError(error.status, str(error), errors=[{"where": field, "message": str(error)}])
        case KiagoError() if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProblemError(error.status, str(error))
        case RequestValidationError():
            found = [
                {"where": ".".join(map(str, each["loc"])), "message": str(each["msg"])}
                for each in error.errors()
            ][:_MOST_ERRORS]
            return ProblemError(422, f"{found[0]['where']}: {found[0]['message']}", errors=found)
        case HTTPException():
            advice = _ADVICE.get(error.status_code, "")
            return ProblemError(error.status_code, f"{error.detail}{advice}", headers=error.headers)
    return None
