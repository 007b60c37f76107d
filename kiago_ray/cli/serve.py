"""`kiago serve`: the HTTP service with its page, on this machine."""

from __future__ import annotations

import io
import logging
import os
import socket
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from kiago_ray.cli import console
from kiago_ray.cli.console import say, stop_on_signal
from kiago_ray.data.tables import known_table, tried_table
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import weights_hashes
from kiago_ray.runs.spec import read_yaml, with_paths
from kiago_ray.search.sections import validated
from kiago_ray.service.settings import ServiceSettings, is_loopback
from kiago_ray.service.tokens import Tokens

REQUEST_TIMEOUT_S = 120
SERVE_LOGGING = {"log_level": "WARNING", "enable_access_log": False}  # the application has a log of its own


def serve(
    host: Annotated[
        str,
        Option(
            help="Address to listen on. Any but this machine's own needs KIAGO_TOKEN, or tokens in the settings."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    data: Annotated[
        str | None, Option(help="Directory or URI where searches are kept; by default runs/service.")
    ] = None,
    known: console.Known = None,
    tried: console.Tried = None,
    weights: console.Weights = None,
    device: Annotated[str | None, Option(help="cpu, the default, or cuda.")] = None,
    threads: console.Threads = None,
    settings: Annotated[Path | None, Option(help="YAML file with more settings, such as limits.")] = None,
) -> None:
    """Serve predictions, searches and the page at http://HOST:PORT/ until Ctrl-C."""
    given = {"data": data, "known": known, "tried": tried, "device": device, "threads": threads}
    resolved = service_settings(settings, {name: value for name, value in given.items() if value is not None})
    console.usable_device(resolved.device)
    Tokens.of(os.environ, resolved.tokens, required=not is_loopback(host))
    check_place(host, port)
    if known_table(resolved.known) is None:
        raise InputError("--known: none; the service needs known compositions, so name a table or landmarks")
    tried_table(resolved.tried)
    weights_hashes(weights)
    say("starting; Ray and the models take half a minute")
    run(resolved, host, port, None if weights is None else str(weights.absolute()))


def service_settings(file: Path | None, given: dict[str, Any]) -> ServiceSettings:
    """A file's settings with the command line's over them, and absolute paths, as workers need. Raises InputError."""
    values = {} if file is None else read_yaml(file, "settings")
    try:
        settings = validated(ServiceSettings, {"require_token": False, **values, **given})
    except InputError as error:
        raise InputError(str(error) if file is None else f"--settings: {error}") from None
    return with_paths(settings, Path.cwd())


def check_place(host: str, port: int) -> None:
    """Refuse, before anything starts, a port that is taken."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except OSError as error:
        raise InputError(f"--host, --port: can't listen on {host}:{port} ({error.strerror})") from None


def run(settings: ServiceSettings, host: str, port: int, weights: str | None) -> None:
    """Start Ray and the application, wait for Ctrl-C or SIGTERM, end both."""
    from kiago_ray.distributed.cluster import EMBEDDED, connected

    notice = "stopping; a search that runs goes on with the next start"
    with connected(EMBEDDED), stop_on_signal(notice) as stopped:  # before anything else of Ray's is imported
        from ray import serve as ray_serve
        from ray.exceptions import RayError

        from kiago_ray.distributed.service import APPLICATION, application

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            try:
                ray_serve.start(
                    proxy_location="HeadOnly",
                    http_options={"host": host, "port": port, "request_timeout_s": REQUEST_TIMEOUT_S},
                    logging_config=SERVE_LOGGING,
                )
                ray_serve.run(
                    application(settings, weights),
                    name=APPLICATION,
                    route_prefix="/",
                    logging_config=SERVE_LOGGING,  # of the replicas; the one above is of Serve's own
                )
            except RayError as error:  # its proxy has a minute
                told = f"Ray Serve didn't come up ({type(error).__name__}); a machine that is busy needs another try"
                raise InputError(f"the service can't start: {told}") from error
            except RuntimeError as error:
                raise InputError(f"the service can't start: {_cause(ray_serve.status(), error)}") from error
            shown = f"[{host}]" if ":" in host else host
            say(
                f"kiago-ray is at http://{shown}:{port}/ (the API: /docs); searches are kept in {settings.data}"
            )
            while not stopped():
                time.sleep(0.2)
        finally:
            with redirect_stdout(io.StringIO()):  # Ray tells of its own controller's end as of a failure
                ray_serve.shutdown()  # type: ignore[no-untyped-call]


def _cause(status: Any, error: BaseException) -> str:
    """The last line of what a replica died of, else what Serve says."""
    deployments = [each for one in status.applications.values() for each in one.deployments.values()]
    lines = [line.strip() for each in deployments for line in (each.message or "").splitlines()]
    return next((line for line in reversed(lines) if "Error" in line), str(error).splitlines()[0])[:400]
