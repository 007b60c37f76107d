"""The token that clients must send: where it comes from, and when a service starts without one."""

from __future__ import annotations

from collections.abc import Mapping

from kiago_ray.errors import InputError
from kiago_ray.service.settings import TOKEN

SHORTEST_TOKEN = 16


def token_from(environment: Mapping[str, str], *, required: bool) -> str | None:
    """The token that clients must send, None where none is set. Raises InputError."""
    token = environment.get(TOKEN, "").strip()
    if not token:
        if required:
            raise InputError(
                f"{TOKEN} is not set, and the service would be open to anybody who reaches it; set it to a secret of "
                f"at least {SHORTEST_TOKEN} characters"
            )
        return None
    if len(token) < SHORTEST_TOKEN:
        raise InputError(f"{TOKEN} is shorter than {SHORTEST_TOKEN} characters; choose a longer secret")
    return token
