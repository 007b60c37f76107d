"""What an operator sets: where searches are kept, which models, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kiago_ray.errors import InputError

TOKEN = "KIAGO_TOKEN"
"""The environment variable with the token that clients must send. Settings never hold it."""
SHORTEST_TOKEN = 16


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Settings):
    """How much a request may ask for. Everything that comes from outside is bounded by one of these."""

    formulas: int = Field(default=10_000, ge=1, le=1_000_000, description="Formulas of one request.")
    formula_length: int = Field(default=200, ge=1, le=400, description="Characters of one formula.")
    body_bytes: int = Field(default=2_500_000, ge=1_000, le=1 << 30, description="Size of a request.")
    search_body_bytes: int = Field(
        default=200_000, ge=1_000, le=1 << 30, description="Size of a request for a search."
    )
    formulas_per_client: int = Field(
        default=40_000, ge=1, le=10**8, description="Formulas of one client at once, on one replica."
    )
    streams: int = Field(
        default=200, ge=1, le=100_000, description="Progress streams of all, on one replica."
    )
    predict_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="For a prediction.")
    requests_per_client: int = Field(
        default=64, ge=1, le=100_000, description="Of one client at once, on one replica."
    )
    streams_per_client: int = Field(
        default=8, ge=1, le=1000, description="Progress streams of one client at once."
    )
    stream_s: float = Field(default=50.0, gt=0, le=3600, description="After which a client has to reconnect.")
    search_candidates: int = Field(default=4096, ge=1, le=1_000_000, description="Rows of a search.")
    search_row_steps: int = Field(
        default=2_000_000,
        ge=1,
        le=10**12,
        description="Rows × steps of a search; 2 cores do about 1,500 a second.",
    )
    search_atoms: int = Field(default=200, ge=1, le=100_000, description="n_unit.max of a search.")
    searches_per_client: int = Field(
        default=4, ge=1, le=10_000, description="Waiting and running, of one client."
    )
    searches_waiting: int = Field(default=64, ge=1, le=100_000, description="Waiting and running, of all.")
    searches_kept: int = Field(
        default=10_000,
        ge=1,
        le=10**6,
        description="On storage, those that ended too; beyond it the oldest of those are removed.",
    )


class ServiceSettings(_Settings):
    """What all parts of the service get."""

    data: str = Field(default="runs/service", description="Where searches are kept: a directory or a URI.")
    known: str | None = Field(
        default=None,
        description="Known compositions: a CSV file with formula and tc_k, SuperCon's primary.tsv or "
        "landmarks; null takes supercon, the shipped ones.",
    )
    tried: str | None = Field(
        default=None,
        description="What was made and measured, for every search: a CSV file with formula, tc_k (0: none found) and "
        "maybe down_to_k, or shipped, a survey of 2009; null is none.",
    )
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads of a replica; null takes all that it can use."
    )
    batch_formulas: int = Field(
        default=1024,
        ge=1,
        le=100_000,
        description="Formulas of one pass through the models, of several requests or a piece of a large one, so that "
        "small ones get between.",
    )
    search_shard_rows: int = Field(
        default=128,
        ge=8,
        le=65_536,
        description="Rows of a search that run together; what is done of a search that is cut off is kept by these.",
    )
    require_token: bool = Field(
        default=True, description=f"Whether the service refuses to start without {TOKEN} in the environment."
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Other sites whose pages may ask (CORS), such as https://lab.example.org."
    )
    client_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header in which a proxy in front says who asks, such as X-Real-IP; of several addresses the last "
        "one counts. Null takes the address of the connection, which is the proxy's for everybody behind one.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Names beside this machine's own that may be asked for where there is no token.",
    )
    limits: Limits = Field(default_factory=Limits)


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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
