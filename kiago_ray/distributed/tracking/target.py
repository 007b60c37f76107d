"""Where MLflow's record of a campaign goes, and how that is told to people without its secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from kiago_ray.errors import InputError
from kiago_ray.storage.location import Location

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LEAST_SECRET = 4  # replacing shorter ones would only garble a message; in a URI they are hidden all the same
_LONGEST_MESSAGE = 300
_LOCAL = ("sqlite", "file")  # their URIs hold no user, and paths may hold any character


class TrackingError(InputError):
    """MLflow's record can't be kept there. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class TrackingTarget:
    """An MLflow server or database, and the experiment in it. The URI may hold a user and a password.

    Raises TrackingError for a URI of neither.
    """

    uri: str = field(repr=False)
    experiment: str

    def __post_init__(self) -> None:
        if self.kind not in (*_SERVERS, *_DATABASES) or "://" not in self.uri:
            raise TrackingError(
                f"{self.hide(self.uri)!r} is no MLflow store; give a server such as http://127.0.0.1:5000, or "
                "sqlite:////path/to/mlflow.db"
            )
        if not self.experiment.strip():
            raise TrackingError("the MLflow experiment has no name; give one")

    @property
    def kind(self) -> str:
        """The URI's scheme without a driver's name, such as http or sqlite; "" where there is none."""
        return self.uri.partition(":")[0].partition("+")[0].lower() if ":" in self.uri else ""

    @property
    def shown(self) -> str:
        """The URI as people may see it: without user, password and query."""
        return shown_uri(self.uri)

    def hide(self, text: str) -> str:
        """A message on one line, not too long, without this target's secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        line = re.sub(r"(?<!sqlite)(?<!file)://\S*@", "://***@", " ".join(text.split()))
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"

    def told(self, error: BaseException) -> str:
        """What a store's error says, for people: one line, no secrets."""
        text = str(error) or type(error).__name__
        cause = re.search(r"Caused by \w+\(([\"'])(.*)\1\)", text)  # urllib3's, at the end of a long chain
        return self.hide(f"{self.shown}: {cause[2].rpartition(': ')[2]}" if cause else text)

    def _secrets(self) -> set[str]:
        if self.kind in _LOCAL:
            return set()
        user, _, password = self.uri.partition("://")[2].rpartition("@")[0].partition(":")
        try:
            query = parse_qsl(urlsplit(self.uri).query)
        except ValueError:
            query = []
        found = {password or user, *(value for _, value in query)}
        found |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
        found |= {unquote(secret) for secret in found}
        return {secret for secret in found if len(secret) >= _LEAST_SECRET}


def shown_uri(uri: str) -> str:
    """A URI without user, password and query; a path as it is."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme.partition("+")[0] in _LOCAL:
        return uri
    rest, query, _ = rest.partition("?")
    _, user, host = rest.rpartition("@")
    return f"{scheme}://{'***@' if user else ''}{host}{'?***' if query else ''}"


def sqlite_uri(path: Path) -> str:
    """The URI of a database file. SQLAlchemy takes what follows ? for options, and decodes %."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other and for a database in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0].lower() != "sqlite" or path in ("", ":memory:"):
        return None
    return Path(path).absolute()


def default_tracking_uri(campaign: Location) -> str | None:
    """A database beside a local campaign, so that one UI shows many campaigns; None for a remote one."""
    if campaign.filesystem.type_name != "local":
        return None
    return sqlite_uri(Path(campaign.path).parent / DATABASE)


def artifact_root(target: TrackingTarget, campaign: Location) -> str | None:
    """Where a new experiment's files go, as a URI; None leaves it to a server. Raises TrackingError.

    Left to itself MLflow would put a database's files into the working directory.
    """
    if target.kind in _SERVERS:
        return None
    database = sqlite_path(target.uri)
    if database is not None:
        return (database.parent / ARTIFACTS).as_uri()
    if campaign.filesystem.type_name == "local":
        return (Path(campaign.path).parent / ARTIFACTS).as_uri()
    raise TrackingError(
        f"{target.shown} has no place for the files of a remote campaign; give the URI of an MLflow server"
    )
