"""What an operator sets: where searches are kept, which models, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from kiago_ray.search.sections import Section

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Limits(Section):
    """How much a request may ask for. Everything that comes from outside is bounded by one of these."""

    formulas: int = Field(default=10_000, ge=1, le=1_000_000)
    """Formulas of one request."""
    formula_length: int = Field(default=200, ge=1, le=400)
    """Characters of a formula."""
    body_bytes: int = Field(default=2_500_000, ge=1_000, le=1 << 30)
    """Bytes of a request for predictions."""
    search_body_bytes: int = Field(default=200_000, ge=1_000, le=1 << 30)
    """Bytes of a request for a search."""
    body_timeout_s: Seconds = 30.0
    """Seconds within which a request's body has to come whole."""
    predict_timeout_s: Seconds = 60.0
    """Seconds after which a request for predictions is given up."""
    stream_s: Seconds = 50.0
    """Seconds of a progress stream, after which a client has to connect again."""
    formulas_per_client: int = Field(default=40_000, ge=1, le=10**8)
    """Formulas that one client may have in work at once, on one replica."""
    requests_per_client: int = Field(default=64, ge=1, le=100_000)
    """Requests of one client at once, on one replica."""
    streams_per_client: int = Field(default=8, ge=1, le=1_000)
    """Progress streams of one client at once, on one replica."""
    streams: int = Field(default=200, ge=1, le=100_000)
    """Progress streams of all clients at once, on one replica."""
    search_candidates: int = Field(default=4096, ge=1, le=1_000_000)
    """Rows of one search."""
    search_row_steps: int = Field(default=2_000_000, ge=1, le=10**12)
    """Rows × steps of one search, 10 to 500 for the end of each row among them; two cores do about 1,500 a second."""
    search_atoms: int = Field(default=200, ge=1, le=100_000)
    """Highest n_unit.max of a search."""
    searches_per_client: int = Field(default=4, ge=1, le=10_000)
    """Searches of one client, or one name of `tokens`, that wait or run."""
    searches_waiting: int = Field(default=64, ge=1, le=100_000)
    """Searches of all clients that wait or run."""
    searches_kept: int = Field(default=10_000, ge=1, le=10**6)
    """Searches on storage, of each name of `tokens` for itself; beyond it the oldest that ended are removed."""


class ServiceSettings(Section):
    """What all parts of the service get."""

    data: str = "runs/service"
    """Where searches are kept: a directory or a URI."""
    runs: str | None = "runs"
    """Runs of the command line that the page shows: a directory or a URI, which is only read; null shows none."""
    known: str | None = None
    """Known compositions: a CSV file with formula and tc_k, SuperCon's primary.tsv or landmarks; null takes supercon.
    """
    tried: str | None = None
    """What was made and measured: a CSV file with formula, tc_k (0: none found) and maybe down_to_k, or shipped."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the models compute."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of a replica; null takes all that it can use."""
    batch_formulas: int = Field(default=1024, ge=1, le=100_000)
    """Formulas of one pass through the models: of several requests, or a piece of a large one."""
    search_shard_rows: int = Field(default=128, ge=8, le=65_536)
    """Rows of a search that run together; what is done of a search that is cut off is kept by these."""
    require_token: bool = True
    """Whether the service refuses to start without KIAGO_TOKEN in the environment or `tokens`; `kiago serve` asks for
    one only where other machines can reach it.
    """
    tokens: str | None = None
    """A file with named tokens: a line of a name, a space and a token for each, read again when it changes. Searches
    and limits are then each name's own; the name admin and KIAGO_TOKEN see all.
    """
    allowed_origins: tuple[str, ...] = ()
    """Other sites whose pages may ask (CORS), such as https://lab.example.org."""
    client_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    """Header in which a proxy of trusted_proxies says who asks, such as X-Real-IP; of several values the last one
    counts. Null takes the address of the connection, which is the proxy's for everybody behind one.
    """
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of the proxies whose client_header is believed, such as 10.1.0.0/16; of others it is not."""
    allowed_hosts: tuple[str, ...] = ()
    """Names beside this machine's own that may be asked for without a token."""
    limits: Limits = Field(default_factory=Limits)
    """How much a request may ask for."""

    @model_validator(mode="after")
    def _header_of_somebody(self) -> Self:
        if self.client_header and not self.trusted_proxies:
            raise ValueError(
                f"client_header: {self.client_header} could be sent by anybody; name in trusted_proxies the networks "
                "of the proxies that set it, such as 10.1.0.0/16"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
