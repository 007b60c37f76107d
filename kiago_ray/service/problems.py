"""Errors as problem details (RFC 9457): what is wrong and what to do, and nothing of what is inside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from kiago_ray.errors import KiagoError
from kiago_ray.search.sections import SpecError
from kiago_ray.storage.location import StorageError

MEDIA_TYPE = "application/problem+json"
STORAGE_RETRY_S = 10
BUSY_RETRY_S = 2
_MOST_ERRORS = 20

log = logging.getLogger("kiago_ray.service")

T = TypeVar("T")


def writable(text: str) -> str:
    """The text with a question mark for what UTF-8 can't hold: JSON may carry halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


class ProblemError(KiagoError):
    """A request that can't be answered as asked. detail: one line; retry_after_s: when to come back."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: int | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.retry_after_s, self.errors = retry_after_s, errors


async def answered(asked: Awaitable[T], timeout_s: float) -> T:
    """What is answered in time. Raises ProblemError, 504."""
    try:
        return await asyncio.wait_for(asked, timeout_s)
    except TimeoutError:
        told = f"no answer within {timeout_s:g} s; send fewer formulas at a time"
        raise ProblemError(504, told, retry_after_s=BUSY_RETRY_S) from None


def problem_response(
    status: int,
    detail: str,
    *,
    instance: str = "",
    request_id: str = "",
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request that went wrong."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": writable(detail),
        "instance": writable(instance),
        "request_id": request_id,
    }
    if errors:
        body["errors"] = [{key: writable(value) for key, value in each.items()} for each in errors]
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def handle_problems(app: FastAPI) -> None:
    """Let every error of `app` that was foreseen end as a problem; the guard answers for the others."""

    def answer(request: Request, status: int, detail: str, **more: Any) -> Response:
        return problem_response(
            status,
            detail,
            instance=request.url.path,
            request_id=getattr(request.state, "request_id", ""),
            **more,
        )

    @app.exception_handler(ProblemError)
    async def refused(request: Request, error: ProblemError) -> Response:
        after = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return answer(request, error.status, error.detail, errors=error.errors, headers=after)

    @app.exception_handler(KiagoError)
    async def wrong(request: Request, error: KiagoError) -> Response:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise error  # the guard logs it, and says nothing of what is inside
        return answer(request, error.status, str(error))

    @app.exception_handler(SpecError)
    async def misspecified(request: Request, error: SpecError) -> Response:
        field = str(error).partition(":")[0]
        return answer(request, error.status, str(error), errors=[{"where": field, "message": str(error)}])

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [
            {"where": ".".join(map(str, each["loc"])), "message": str(each["msg"])} for each in error.errors()
        ][:_MOST_ERRORS]
        first = found[0]
        return answer(request, 422, f"{first['where']}: {first['message']}", errors=found)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        advice = "; the API is described at /docs" if error.status_code in (404, 405) else ""
        return answer(request, error.status_code, f"{error.detail}{advice}", headers=error.headers)

    @app.exception_handler(StorageError)
    async def storage(request: Request, error: StorageError) -> Response:
        log.error("storage: %s", error)  # it names a place, which is nobody's business outside
        return answer(
            request,
            error.status,
            "the service's storage can't be used now; try again later",
            headers={"Retry-After": str(STORAGE_RETRY_S)},
        )
