"""A client of the service: predictions, explanations and searches from a script.

with Client("http://127.0.0.1:8000") as client:
    rows = client.predict(["MgB2", "LaNiAsO"])
    search = client.search(base="LaNiAsO", candidates=64, steps=[100, 100])
    done = client.wait(search["id"])
    best = client.candidates(search["id"], limit=10, passed=True)
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import httpx

from kiago_ray.errors import KiagoError

Row = dict[str, Any]

UNFINISHED = ("queued", "running")
RETRIED = (429, 503)  # the service says when to come back; nothing was done
_LOST = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectTimeout)


class ServiceError(KiagoError):
    """What the service refused or failed at. status: of HTTP; 0 where it could not be reached."""

    def __init__(self, status: int, detail: str, request_id: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.request_id = status, detail, request_id


class Client(httpx.Client):
    """Speaks to one service. Its own methods raise ServiceError. token: by default KIAGO_TOKEN of the environment.

    retries: how often to come back where the service is busy or a connection broke, after what it says in
    Retry-After or, without that, after a growing pause; what was not safe to repeat is not repeated.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        retries: int = 8,
        timeout_s: float = 120.0,
        longest_pause_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        token = token or os.environ.get("KIAGO_TOKEN") or None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        host = httpx.URL(url).host  # a proxy would look for this machine's own on its machine
        direct: Any = {f"all://{host}": None} if host == "localhost" or _is_loopback(host) else None
        super().__init__(base_url=url, headers=headers, timeout=timeout_s, mounts=direct)
        self._retries, self._longest, self._sleep = retries, longest_pause_s, sleep

    def predict(self, formulas: Sequence[str], *, at_once: int = 10_000) -> list[Row]:
        """A row for each formula, in their order; a bad one has an `error`."""
        parts = (list(formulas[at : at + at_once]) for at in range(0, len(formulas), at_once))
        answers = (self._json("POST", "/v1/predict", json={"formulas": part}) for part in parts)
        return [row for answer in answers for row in answer["predictions"]]

    def explain(self, formula: str) -> Row:
        """One formula in full; 422 for one that can't be read."""
        return self._json("POST", "/v1/explain", json={"formula": formula})

    def scan(self, formula: str, *changes: tuple[str, str, str]) -> Row:
        """Doping series of a formula, each change a site, dopants and amounts, such as ("La", "Sr,Ba", "0:0.3:0.01");
        two are a map. 422 for one that can't be.
        """
        asked = [dict(zip(("site", "dopants", "x"), each, strict=True)) for each in changes]
        return self._json("POST", "/v1/scan", json={"formula": formula, "changes": asked})

    def models(self) -> Row:
        """The models, their hashes, the service's limits."""
        return self._json("GET", "/v1/models")

    def search(self, **spec: Any) -> Row:
        """Start a search; its job, whose `id` the others take. Not repeated when a connection breaks: the search might
        have been taken.
        """
        return self._json("POST", "/v1/searches", json=spec, repeatable=False)

    def searches(self, *, limit: int = 20, offset: int = 0) -> list[Row]:
        """Jobs, newest first."""
        found = self._json("GET", "/v1/searches", params={"limit": limit, "offset": offset})
        return list(found["searches"])

    def job(self, search_id: str) -> Row:
        """A search as it stands; 404 where there is none."""
        return self._json("GET", f"/v1/searches/{search_id}")

    def cancel(self, search_id: str) -> Row:
        """Ask for a search's end."""
        return self._json("DELETE", f"/v1/searches/{search_id}")

    def watch(self, search_id: str) -> Iterator[Row]:
        """The job whenever it has moved, until it has ended; a stream that ends is asked for again."""
        while True:
            try:
                with self.stream("GET", f"/v1/searches/{search_id}/events") as answer:
                    if answer.status_code >= 400:
                        answer.read()
                        raise _error(answer)
                    for line in answer.iter_lines():
                        if line.startswith("data:"):
                            job: Row = json.loads(line.removeprefix("data:"))
                            yield job
                            if job["state"] not in UNFINISHED:
                                return
            except _LOST:
                pass
            except ServiceError as error:
                if error.status not in RETRIED:
                    raise
            self._sleep(1.0)
            job = self.job(search_id)  # with its retries: a service that is gone for good ends this
            if job["state"] not in UNFINISHED:
                yield job
                return

    def wait(self, search_id: str) -> Row:
        """The job once it has ended. Raises ServiceError also where the search failed."""
        *_, job = self.watch(search_id)
        if job["state"] == "failed":
            raise ServiceError(200, f"search {search_id} failed: {job['error']}")
        return job

    def candidates(
        self, search_id: str, *, limit: int = 100, offset: int = 0, passed: bool = False
    ) -> list[Row]:
        """Some candidates of a finished search, best first; 409 while it isn't done."""
        asked = {"limit": limit, "offset": offset, "passed": passed}
        found = self._json("GET", f"/v1/searches/{search_id}/candidates", params=asked)
        return list(found["candidates"])

    def download(self, search_id: str, path: Path, *, format: Literal["csv", "parquet"] = "parquet") -> Path:
        """All candidates as a file."""
        answer = self._ask("GET", f"/v1/searches/{search_id}/candidates", params={"format": format})
        path.write_bytes(answer.content)
        return path

    def _json(self, method: str, path: str, **sent: Any) -> Row:
        answer: Row = self._ask(method, path, **sent).json()
        return answer

    def _ask(self, method: str, path: str, *, repeatable: bool = True, **sent: Any) -> httpx.Response:
        for tried in range(self._retries + 1):
            pause = min(0.25 * 2**tried, self._longest) * random.uniform(0.5, 1.0)
            last = tried == self._retries
            try:
                answer = self.request(method, path, **sent)
            except _LOST as error:
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise ServiceError(0, f"{self.base_url} can't be reached ({error})") from error
            except httpx.HTTPError as error:
                raise ServiceError(0, f"{self.base_url} does not answer ({error})") from error
            else:
                if answer.status_code < 400:
                    return answer
                # Then a proxy says that the replica is gone; the service's own failures are problem details.
                gone = answer.status_code == 500 and "problem" not in answer.headers.get("Content-Type", "")
                if last or not (answer.status_code in RETRIED or (repeatable and gone)):
                    raise _error(answer)
                said = answer.headers.get("Retry-After", "")
                if said.isdigit():  # with a little more so that clients don't come back together
                    pause = min(float(said), self._longest) + random.uniform(0, 0.5)
            self._sleep(pause)
        raise AssertionError("the last try either answers or raises")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


def _error(answer: httpx.Response) -> ServiceError:
    try:
        problem = answer.json()
        detail, request_id = str(problem["detail"]), str(problem.get("request_id", ""))
    except (ValueError, KeyError, TypeError):
        detail, request_id = answer.text[:200] or answer.reason_phrase, ""
    return ServiceError(answer.status_code, detail, request_id)
