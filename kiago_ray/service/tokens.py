"""Who asks: the holder of KIAGO_TOKEN, which has no name, or of a named token in a file of the operator's."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kiago_ray.errors import InputError

TOKEN = "KIAGO_TOKEN"
"""The environment variable with the token of who sees all. Settings never hold a token."""
SHORTEST_TOKEN = 16
ADMIN = "admin"
"""The name whose tokens see and cancel the searches of all."""
NAME = "[a-z0-9][a-z0-9_-]{0,23}"
"""What a name may be: it stands in the ids of searches, and so in the names of files."""
_LINE = re.compile(rf"({NAME})\s+([!-~]+)")
_MOST_BYTES = 1 << 20

log = logging.getLogger("kiago_ray.service")


def sees_all(owner: str) -> bool:
    """Whether who has this name ("": none) sees the searches of all."""
    return owner in ("", ADMIN)


@dataclass
class Tokens:
    """The tokens that open the service; of each only its hash is kept. shared: that of KIAGO_TOKEN. file: lines of a
    name and a token; it is read again when it changes, and a version with a mistake changes nothing.
    """

    shared: str | None = None
    file: str | None = None
    _names: dict[bytes, str] = field(default_factory=dict, repr=False)
    _seen: tuple[int, ...] | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], file: str | None = None, *, required: bool) -> Tokens:
        """The tokens of an environment and a file. Raises InputError for one that can't be used, and where there are
        none though they are required.
        """
        shared = environment.get(TOKEN, "").strip()
        if not shared and file is None and required:
            raise InputError(
                f"{TOKEN} is not set, and the service would be open to anybody who reaches it; set it to a secret of "
                f"at least {SHORTEST_TOKEN} characters, or name a file of tokens in the setting `tokens`"
            )
        if 0 < len(shared) < SHORTEST_TOKEN:
            raise InputError(f"{TOKEN} is shorter than {SHORTEST_TOKEN} characters; choose a longer secret")
        tokens = cls(shared or None, file)
        if file is not None:
            tokens._seen, tokens._names = _version(file), _names_in(file)
        return tokens

    def __bool__(self) -> bool:
        return self.shared is not None or self.file is not None

    def owner(self, authorization: str) -> str | None:
        """The name of the token in this header; "" for KIAGO_TOKEN and where no token is needed; None for any other.
        It takes as long for a wrong token as for a right one.
        """
        if not self:
            return ""
        self._look_again()
        scheme, _, given = authorization.partition(" ")
        digest = _digest(given.strip())
        names = self._names if self.shared is None else {**self._names, _digest(self.shared): ""}
        found = [name for each, name in names.items() if hmac.compare_digest(each, digest)]
        return found[0] if found and scheme.lower() == "bearer" else None

    def _look_again(self) -> None:
        """Take up the file where it isn't what it was."""
        if self.file is None or (seen := _version(self.file)) == self._seen:
            return
        self._seen = seen
        try:
            self._names = _names_in(self.file)
            log.info("%s was read again; it has %s tokens", self.file, len(self._names))
        except InputError as error:
            log.error("%s; the tokens stay as they were", error)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _version(file: str) -> tuple[int, ...] | None:
    """What changes with a file; None where it isn't there. A mounted Secret changes by another link."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _names_in(file: str) -> dict[bytes, str]:
    """Hash → name of each token of a file. Raises InputError, which names lines and no token."""
    try:
        with open(file, "rb") as opened:
            lines = opened.read(_MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(f"tokens: {file} can't be read ({why})") from None
    names: dict[bytes, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line)) is None:
            raise InputError(
                f"tokens: line {number} of {file} is no name and token; write a name of at most 24 small letters, "
                "digits, - and _, a space, and the token"
            )
        name, token = found.groups()
        if len(token) < SHORTEST_TOKEN:
            raise InputError(
                f"tokens: line {number} of {file} has a token of fewer than {SHORTEST_TOKEN} characters; choose a "
                "longer secret"
            )
        if names.setdefault(_digest(token), name) != name:
            raise InputError(
                f"tokens: line {number} of {file} has a token of another name; give each its own"
            )
    if not names:
        raise InputError(f"tokens: {file} has no token; write a line of a name, a space and a token for each")
    return names
