"""What an operator sets: where searches are kept, which models, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from kiago_ray.errors import InputError

TOKEN = "KIAGO_TOKEN"
"""The environment variable with the token that clients must send. Settings never hold it."""
SHORTEST_TOKEN = 16

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Limits(BaseModel, extra="forbid", frozen=True):
    """How much a request may ask for. Everything that comes from outside is bounded by one of these."""

    formulas: int = Field(default=10_000, ge=1, le=1_000_000)  # of one request
    formula_length: int = Field(default=200, ge=1, le=400)  # characters
    body_bytes: int = Field(default=2_500_000, ge=1_000, le=1 << 30)
    search_body_bytes: int = Field(default=200_000, ge=1_000, le=1 << 30)
    predict_timeout_s: Seconds = 60.0
    stream_s: Seconds = 50.0  # of a progress stream, after which a client has to connect again
    # At once, on one replica: of one client, and progress streams of all clients.
    formulas_per_client: int = Field(default=40_000, ge=1, le=10**8)
    requests_per_client: int = Field(default=64, ge=1, le=100_000)
    streams_per_client: int = Field(default=8, ge=1, le=1_000)
    streams: int = Field(default=200, ge=1, le=100_000)
    # Of one search.
    search_candidates: int = Field(default=4096, ge=1, le=1_000_000)  # rows
    # Rows × steps; 2 cores do about 1,500 a second.
    search_row_steps: int = Field(default=2_000_000, ge=1, le=10**12)
    search_atoms: int = Field(default=200, ge=1, le=100_000)  # n_unit.max
    # How many searches: that wait or run, and on storage, where beyond it the oldest that ended are removed.
    searches_per_client: int = Field(default=4, ge=1, le=10_000)
    searches_waiting: int = Field(default=64, ge=1, le=100_000)
    searches_kept: int = Field(default=10_000, ge=1, le=10**6)


class ServiceSettings(BaseModel, extra="forbid", frozen=True):
    """What all parts of the service get."""

    data: str = "runs/service"  # where searches are kept: a directory or a URI
    # Known compositions: a CSV file with formula and tc_k, SuperCon's primary.tsv or landmarks; null takes supercon.
    known: str | None = None
    # What was made and measured: a CSV file with formula, tc_k (0: none found) and maybe down_to_k, or shipped.
    tried: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = Field(default=None, ge=1, le=1024)  # of a replica; null takes all that it can use
    # Formulas of one pass through the models: of several requests, or a piece of a large one.
    batch_formulas: int = Field(default=1024, ge=1, le=100_000)
    # Rows of a search that run together; what is done of a search that is cut off is kept by these.
    search_shard_rows: int = Field(default=128, ge=8, le=65_536)
    require_token: bool = True  # whether the service refuses to start without KIAGO_TOKEN in the environment
    allowed_origins: tuple[str, ...] = ()  # other sites whose pages may ask (CORS): https://lab.example.org
    # Header in which a proxy in front says who asks, such as X-Real-IP; of several addresses the last one counts. Null
    # takes the address of the connection, which is the proxy's for everybody behind one.
    client_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    # Names beside this machine's own that may be asked for without a token.
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()


def token_from(environment: Mapping[str, str], *, required: bool) -> str | None:
    """The token that clients must send, None where none is set. Raises InputError."""
    token = environment.get(TOKEN, "").strip()
    if not token and required:
        raise InputError(
            f"{TOKEN} is not set, and the service would be open to anybody who reaches it; set it to a secret of "
            f"at least {SHORTEST_TOKEN} characters"
        )
    if 0 < len(token) < SHORTEST_TOKEN:
        raise InputError(f"{TOKEN} is shorter than {SHORTEST_TOKEN} characters; choose a longer secret")
    return token or None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
