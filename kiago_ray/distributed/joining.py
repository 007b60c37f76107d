"""Whether a Ray cluster can be joined from here, known in seconds: Ray itself tries for minutes, with many lines."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit

from kiago_ray.errors import InputError

CLIENT = "ray://"
_ANSWER_S = 10.0
_OWN = "give --address local for a cluster of this machine's own"
_REFUSES = (
    "it refuses this process's token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the "
    f"cluster's, or, where another program has started it for itself, {_OWN}"
)


def joinable(address: str, named: str) -> str:
    """HOST:PORT of a cluster that answers, takes this process's token and has a node here. The address of a server of
    Ray's clients stays as it is. named: what has named it, such as RAY_ADDRESS. Raises InputError.
    """
    scheme, separator, rest = address.rpartition("://")
    if scheme in ("http", "https"):
        unset = "unset it, and " if named == "RAY_ADDRESS" else ""
        raise InputError(
            f"{named}: {address} is a dashboard, where `ray job submit` hands in jobs; {unset}on one of its cluster's "
            f"nodes give --address auto, elsewhere {_OWN.removeprefix('give ')}"
        )
    try:
        place = urlsplit(f"//{rest}")
        right = scheme + separator in ("", CLIENT) and bool(place.hostname and place.port)
    except ValueError:  # a port that is none
        right = False
    if not right and address != "auto":
        raise InputError(
            f"{named}: {address!r} is no address of a Ray cluster; give HOST:PORT, auto or local"
        )
    target = rest if scheme else _found(address, named)
    if why := _refusal(target, client=bool(scheme)):
        shown = address if target in address else f"{address} ({target})"
        raise InputError(f"{named}: can't join the Ray cluster at {shown}: {why}")
    return address if scheme else target


def _found(address: str, named: str) -> str:
    """HOST:PORT as the cluster's other nodes know it; of `auto`, that of a cluster on this machine."""
    from ray._private import services

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # until Ray starts, which sets it
    try:
        return str(services.canonicalize_bootstrap_address(address))
    except ConnectionError:
        raise InputError(
            f"{named}: auto finds no Ray cluster on this machine; start one with `ray start`, give HOST:PORT, or "
            f"{_OWN}"
        ) from None


def _refusal(target: str, *, client: bool) -> str:
    """Why the cluster at HOST:PORT can't be joined, with what to do; empty where it can."""
    import grpc
    from ray._private import services
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    asked = GetAllNodeInfoRequest(state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
    try:
        with init_grpc_channel(target) as channel:
            cluster: Any = NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]
            nodes = cluster.GetAllNodeInfo(asked, timeout=_ANSWER_S).node_info_list
    except AuthenticationError:  # there is no token here at all
        return _REFUSES
    except grpc.RpcError as error:
        code, details = error.code(), (error.details() or "").rpartition("last error: ")[2]
        if client and code is grpc.StatusCode.UNIMPLEMENTED:
            return ""  # what serves clients knows no nodes
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return _REFUSES
        silent = code is grpc.StatusCode.DEADLINE_EXCEEDED
        what = (
            f"nothing within {_ANSWER_S:g} s"
            if silent
            else re.sub(r"^[A-Z]+: ipv\S+: |\s+", " ", details).strip()
        )
        return (
            f"no cluster of Ray's answers there ({what[:200]}); check the address, and that the cluster runs"
        )
    if client:
        return "it is no server of Ray's clients but the cluster itself; leave out ray://"
    here = services.find_node_ids()  # type: ignore[no-untyped-call]
    if any(node.node_id.hex() in here for node in nodes):
        return ""
    others = ", ".join(node.node_manager_address for node in nodes[:3])
    return (
        f"this machine is none of its {len(nodes)} nodes ({others}); run this on one of them, or hand it in with `ray "
        "job submit`"
    )
