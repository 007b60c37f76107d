"""Where the record is kept: an MLflow server or database, told to people without its secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from kiago_ray.errors import InputError
from kiago_ray.storage.location import Location

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
_SERVERS = ("http", "https")
_LOCAL = ("sqlite", "file")  # such URIs hold no user, and any character in their paths
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LEAST_SECRET = 4  # replacing shorter ones would only garble a message; in a URI they are hidden all the same
_LONGEST_MESSAGE = 300


class TrackingError(InputError):
    """MLflow's record can't be kept there. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class TrackingTarget:
    """An MLflow server or database, whose URI may hold a password, and the experiment in it. Raises TrackingError."""

    uri: str = field(repr=False)
    experiment: str

    def __post_init__(self) -> None:
        if _kind(self.uri) not in (*_SERVERS, *_DATABASES):
            raise TrackingError(
                f"{self.hide(self.uri)!r} is no MLflow store; give a server such as http://127.0.0.1:5000, or "
                "sqlite:////path/to/mlflow.db"
            )

    def hide(self, text: str) -> str:
        """A message on one line, not too long, without this target's secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        line = re.sub(r"(?<!sqlite)(?<!file)://\S*@", "://***@", " ".join(text.split()))
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"

    def in_words(self, error: BaseException) -> str:
        """What a store's error says, for people: one line, no secrets."""
        text = str(error) or type(error).__name__
        cause = re.search(r"Caused by \w+\(([\"'])(.*)\1\)", text)  # urllib3's, at the end of a long chain
        return self.hide(f"{shown_uri(self.uri)}: {cause[2].rpartition(': ')[2]}" if cause else text)

    def _secrets(self) -> set[str]:
        if _kind(self.uri) in _LOCAL:
            return set()
        user, _, password = self.uri.partition("://")[2].rpartition("@")[0].partition(":")
        query = self.uri.partition("?")[2].partition("#")[0]
        found = {password or user, *(value for _, value in parse_qsl(query))}
        found |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
        return {secret for secret in found | set(map(unquote, found)) if len(secret) >= _LEAST_SECRET}


def tracking_target(run: Location, uri: str | None, experiment: str) -> TrackingTarget | None:
    """The store at `uri`, else that of MLFLOW_TRACKING_URI, else a database beside a local run directory, so that one
    UI shows many; None for a remote one. Raises TrackingError.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not chosen and run.filesystem.type_name == "local":
        chosen = sqlite_uri(Path(run.path).parent / DATABASE)
    return TrackingTarget(chosen, experiment) if chosen else None


def artifact_root(target: TrackingTarget, run: Location) -> str | None:
    """Where a new experiment's files go, as a URI; None leaves it to a server. MLflow itself would put those of a
    database into the working directory. Raises TrackingError.
    """
    if is_server(target):
        return None
    beside = sqlite_path(target.uri) or (Path(run.path) if run.filesystem.type_name == "local" else None)
    if beside is None:
        raise TrackingError(
            f"{shown_uri(target.uri)} has no place for the files of a remote campaign; give the URI of an MLflow "
            "server"
        )
    return (beside.parent / ARTIFACTS).as_uri()


def is_server(target: TrackingTarget) -> bool:
    """Whether it is a server, and no database."""
    return _kind(target.uri) in _SERVERS


def sqlite_uri(path: Path) -> str:
    """The URI of a file. SQLAlchemy takes what follows ? for options, and decodes %."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other and for a database in memory."""
    path = unquote(uri.partition(":///")[2].partition("?")[0])
    return Path(path).absolute() if _kind(uri) == "sqlite" and path not in ("", ":memory:") else None


def shown_uri(uri: str) -> str:
    """A URI without user, password and query; a path as it is."""
    if _kind(uri) in ("", *_LOCAL):
        return uri
    return re.sub(r"\?.+", "?***", re.sub(r"://[^?]*@", "://***@", uri))


def _kind(uri: str) -> str:
    """A URI's scheme without a driver's name, such as http or sqlite; "" of a path."""
    return uri.partition("://")[0].partition("+")[0].lower() if "://" in uri else ""
