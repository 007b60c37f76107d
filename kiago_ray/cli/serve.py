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

import typer
from pydantic import ValidationError

from kiago_ray.cli import console
from kiago_ray.cli.console import check_device, say, stop_on_signal
from kiago_ray.data import TRIED_WORDS, WORDS
from kiago_ray.data.tables import known_table, tried_table
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import weights_hashes
from kiago_ray.runs.spec import read_yaml
from kiago_ray.search.sections import spec_error_line
from kiago_ray.service.settings import ServiceSettings, is_loopback, token_from

REQUEST_TIMEOUT_S = 120
SERVE_LOGGING = {"log_level": "WARNING", "enable_access_log": False}  # the application has a log of its own

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs KIAGO_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    data: Annotated[str, typer.Option(help="Directory or URI where searches are kept.")] = "runs/service",
    known: Annotated[
        str | None,
        typer.Option(help="Known compositions: a CSV file, SuperCon's primary.tsv, supercon or landmarks."),
    ] = None,
    tried: Annotated[
        str | None,
        typer.Option(
            help="What was made and measured, for every search: a CSV file with formula, tc_k (0: none found) and "
            "maybe down_to_k, or shipped, a survey of 2009. By default none."
        ),
    ] = None,
    weights: console.Weights = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all of them by default.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file with more settings, such as limits.")
    ] = None,
) -> None:
    """Serve predictions, searches and the page at http://HOST:PORT/ until Ctrl-C."""
    given = {"data": data, "known": known, "tried": tried, "device": device, "threads": threads}
    resolved = service_settings(settings, {name: value for name, value in given.items() if value is not None})
    check_place(host, port)
    # A worker's folder is another: what is relative here must be whole there.
    resolved = resolved.model_copy(
        update={
            "data": whole(resolved.data),
            "known": _file_or_word(resolved.known, WORDS),
            "tried": _file_or_word(resolved.tried, TRIED_WORDS),
        }
    )
    if weights is not None and not weights.is_dir():
        raise InputError(f"--weights: there is no folder {weights}")
    check_models(resolved, weights)
    say("starting; Ray and the models take half a minute")
    run(resolved, host, port, None if weights is None else str(weights.absolute()))


def service_settings(file: Path | None, given: dict[str, Any]) -> Any:
    """The settings of a file, with the command line's over them. Raises InputError."""
    values = {} if file is None else read_yaml(file, "settings")
    if not isinstance(values, dict):
        raise InputError(f"--settings: {file} is no mapping of settings, such as 'threads: 2'")
    try:
        return ServiceSettings.model_validate({"require_token": False, **values, **given})
    except ValidationError as error:
        raise InputError(f"--settings: {spec_error_line(error, ServiceSettings)}") from None


def check_place(host: str, port: int) -> None:
    """Refuse, before anything starts, a host that needs a token and has none, and a port that is taken."""
    token_from(os.environ, required=not is_loopback(host))
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except OSError as error:
        raise InputError(f"--host, --port: can't listen on {host}:{port} ({error.strerror})") from None


def check_models(settings: Any, weights: Path | None) -> None:
    """Refuse models and tables that can't be used, here where it can be told in one line. Raises InputError."""
    check_device(settings.device)
    if known_table(settings.known) is None:
        raise InputError("--known: none; the service needs known compositions, so name a table or landmarks")
    tried_table(settings.tried)
    weights_hashes(weights)


def whole(data: str) -> str:
    """A place as any process understands it."""
    return data if "://" in data else str(Path(data).expanduser().absolute())


def _file_or_word(named: str | None, words: tuple[str, ...]) -> str | None:
    return named if named is None or named in words else str(Path(named).absolute())


def run(settings: Any, host: str, port: int, weights: str | None) -> None:
    """Start Ray and the application, wait for Ctrl-C or SIGTERM, end both."""
    from kiago_ray.distributed.cluster import EMBEDDED, connected

    notice = "stopping; a search that runs goes on with the next start"
    with connected(EMBEDDED), stop_on_signal(notice) as stopped:  # before anything else of Ray's is imported
        from ray import serve as ray_serve

        from kiago_ray.distributed.service import APPLICATION, application

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            ray_serve.start(
                proxy_location="HeadOnly",
                http_options={"host": host, "port": port, "request_timeout_s": REQUEST_TIMEOUT_S},
                logging_config=SERVE_LOGGING,
            )
            try:
                ray_serve.run(
                    application(settings, weights),
                    name=APPLICATION,
                    route_prefix="/",
                    logging_config=SERVE_LOGGING,  # of the replicas; the one above is of Serve's own
                )
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
    messages = [
        each.message
        for one in status.applications.values()
        for each in one.deployments.values()
        if each.message
    ]
    lines = [line.strip() for text in messages for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), str(error).splitlines()[0])[:400]
