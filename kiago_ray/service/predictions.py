"""POST /v1/predict, POST /v1/explain, GET /v1/models, GET /healthz: formulas in, what the models say of them out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, create_model
from pydantic_core import to_json

from kiago_ray import __version__
from kiago_ray.api import read_formula, score_amounts
from kiago_ray.chemistry.balance import UNDOPED_REMARK
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.references import doi_of
from kiago_ray.models import Models
from kiago_ray.predictors.base import predict as values_of
from kiago_ray.predictors.weights import ENERGIES, ORACLE, PLAUSIBILITY
from kiago_ray.report.reasons import Reason, ef_error, reasons_of
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.result import RowStatus
from kiago_ray.search.spec import PRESETS, preset_values
from kiago_ray.service.backend import Asked
from kiago_ray.service.problems import ProblemError, Shape, StrictRoute, json_of, problems, writable
from kiago_ray.service.settings import Limits
from kiago_ray.storage.table import PREDICTED, columns, description

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
COLUMNS = ("formula", *PREDICTED, "error")
MORE = ("trusted_tc_k", "extrapolated", "gain")
CHARGE = (
    "neutral",
    "pauling",
    "balanced",
    "alloy",
    "charge_kind",
    "oxidation_states",
    "charge_nats_per_atom",
    "mean_valences",
    "holes_per_cu",
    "undoped",
)
NEIGHBOURS = 5
STEP = 0.05  # of the atoms that become another element, for the T_c after a step rather than the slope
SMALL_BYTES = 4096
_DECIMALS = 6
_NAMES = {
    "tc_ensemble": "T_c, an ensemble of residual networks on amounts and element statistics",
    "tc": "T_c, a ResNet-18 on a map of the periodic table (presets paper and reference)",
    ENERGIES: "formation energy, an ensemble of networks on sets of elements",
    "ef": "formation energy, ElemNet (presets of the paper, open)",
    ORACLE: "T_c, boosted trees: the second opinion",
    PLAUSIBILITY: "plausibility: whether such a composition exists and is reported",
}

T = TypeVar("T")
router = APIRouter(tags=["predictions"], route_class=StrictRoute)


def _columns(names: Iterable[str], **chosen: Any) -> dict[str, Any]:
    """The fields of these columns of a table of candidates, null where there is no value. chosen: other types."""
    types = {"string": str, "double": float, "bool": bool}
    return {
        name: (
            chosen.get(name) or types[str(columns()[name].type)] | None,
            Field(description=description(name)),
        )
        for name in names
    }


Row = create_model(
    "Row",
    __base__=Shape,
    __doc__="What is known of one formula, as of a row of a search; null for what isn't.",
    formula=str,
    **_columns(PREDICTED),
)


class Prediction(Row):  # type: ignore[misc, valid-type]
    """One formula; with an error all else is null."""

    error: str | None = Field(description="Why nothing is known of this formula.")


class Predictions(Shape):
    """In the order of the request."""

    version: str = Field(description="Changes with any of the models' weights.")
    predictions: list[Prediction]


class FormulaBody(Shape):
    """One formula."""

    formula: str = Field(examples=["YBa2Cu3O7"])


class Element(Shape):
    """One element of a formula."""

    symbol: str
    amount: float
    fraction: float


Charge = create_model(
    "Charge",
    __base__=Shape,
    __doc__="Whether oxidation states balance, by the row's columns.",
    **_columns(CHARGE, charge_kind=Literal["ionic", "metallic"]),
    remark=(str, Field(description="What a person should know of these charges.")),
)


class Neighbour(Shape):
    """A known composition."""

    formula: str
    distance: float = Field(description="L1 distance in atomic fractions, 0 to 2.")
    tc_k: float | None = Field(description="Measured, in K.")
    pressure_gpa: float | None
    reports: int = Field(description="Measurements that tc_k is the median of.")
    reference: str = Field(description="The first report, as far as it is known.")
    doi: str | None = Field(description="Of that reference, where its publisher makes it of volume and page.")


class Slope(Shape):
    """What T_c does as an element takes atoms from all others alike."""

    symbol: str
    dtc_k_per_percent: float = Field(description="The slope, in K for each 1 % of the atoms.")
    tc_with_5_percent_k: float = Field(description="T_c in K once 5 % of the atoms are this element.")


Explanation = create_model(
    "Explanation",
    __base__=Row,
    __doc__="One formula in full.",
    version=str,
    elements=list[Element],
    **_columns(MORE),
    charge=Charge,
    neighbours=list[Neighbour],
    known_source=str,
    reasons=list[Reason],
    gradient=list[Slope],
)


class ModelsView(Shape):
    """What answers here, and its limits."""

    service: dict[str, str]
    version: str
    known: dict[str, Any]
    elements: list[str]
    models: list[dict[str, Any]]
    limits: dict[str, Any]
    presets: dict[str, dict[str, Any]]


class Health(Shape):
    """The service answers and its models predict."""

    status: Literal["ok"]
    version: str


_FORMULAS = {
    JSON: {
        "schema": {
            "type": "object",
            "required": ["formulas"],
            "additionalProperties": False,
            "properties": {"formulas": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
        },
        "example": {"formulas": ["MgB2", "LaNiAsO"]},
    },
    CSV: {"schema": {"type": "string"}, "example": "formula\nMgB2\nLaNiAsO\n"},
}


@router.post(
    "/v1/predict",
    summary="Predict T_c and E_f of many formulas",
    response_model=Predictions,
    openapi_extra={"requestBody": {"required": True, "content": _FORMULAS}},
    responses={
        200: {"content": {each: {"schema": {"type": "string"}} for each in (NDJSON, CSV)}},
        **problems(406, 415, 422, 504),
    },
)
async def predict(request: Request, service: Asked) -> Response:
    """The same rows in the same order. A formula that can't be read has an `error`; the others have predictions.

    Send JSON, or CSV with a column `formula`. Accept JSON, lines of JSON, or CSV.
    """
    limits = service.settings.limits
    kind = wanted(request.headers.get("accept", ""))
    body, sent = await request.body(), request.headers.get("content-type", "")
    given = await _aside(len(body), read_formulas, body, sent, limits)
    reasons = [unreadable(each, limits) for each in given]
    readable = [each if why is None else "" for each, why in zip(given, reasons, strict=True)]
    with service.predicting(request.state.client, len(given)):
        version, scores = await service.answered(service.backend.score(readable))
    scores = with_reasons(scores, given, reasons)
    return Response(await _aside(len(body), write, scores, version, kind), media_type=kind)


@router.post(
    "/v1/explain",
    summary="Explain one formula",
    response_model=Explanation,
    responses=problems(422, 504),
)
async def explain(body: FormulaBody, service: Asked) -> Any:
    """All opinions on it, oxidation states, the nearest known compositions, reasons for and against, and what
    each element would do to T_c.
    """
    models = service.backend.models
    if (why := unreadable(body.formula, service.settings.limits)) is not None:
        raise ProblemError(422, why)
    return await service.answered(service.backend.in_turn(lambda: explained(body.formula, models)))


@router.get("/v1/models", summary="The models and their limits", responses=problems(504))
async def models(service: Asked) -> ModelsView:
    """Model cards with hashes, the elements that are known, the presets of searches, what a request may ask."""
    models = service.backend.models
    assert models.known is not None
    return ModelsView(
        service={"kiago_ray": __version__},
        version=models.version,
        known={"source": models.known.source, "compositions": len(models.known.formulas)},
        elements=[symbol for symbol in SYMBOLS if symbol not in models.foreign],
        models=[
            {"kind": kind, "name": _NAMES.get(kind, kind), "sha256": card["sha256"], "card": dict(card)}
            for kind, card in models.cards.items()
        ],
        limits=service.settings.limits.model_dump(mode="json"),
        presets={name: preset_values(name) for name in PRESETS},
    )


@router.get("/healthz", summary="Whether the models predict", tags=["health"], responses=problems(504))
async def health(service: Asked) -> Health:
    """A known superconductor was predicted within the last second."""
    return Health(status="ok", version=await service.answered(service.backend.sound_version()))


async def _aside(size: int, work: Callable[..., T], *given: Any) -> T:
    """What `work` gives: in a thread for a request of many bytes, so that others are answered meanwhile."""
    return await run_in_threadpool(work, *given) if size > SMALL_BYTES else work(*given)


def wanted(accept: str) -> str:
    """The first of our formats that a client accepts; JSON if it names none. Raises ProblemError, 406."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    ours = {JSON: JSON, NDJSON: NDJSON, CSV: CSV, "*/*": JSON, "application/*": JSON}
    for each in named:
        if each in ours:
            return ours[each]
    if named and "text/*" not in named:
        raise ProblemError(406, f"there is no {named[0][:80]} here; accept {JSON}, {NDJSON} or {CSV}")
    return CSV if named else JSON


def read_formulas(body: bytes, content_type: str, limits: Limits) -> list[Any]:
    """The formulas of a request: {"formulas": [...]}, or CSV with a column `formula`. Raises ProblemError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == CSV:
        found = _from_csv(body, limits)
    elif kind == JSON or kind.endswith("+json"):
        found = _from_json(body)
    else:
        raise ProblemError(415, f"{kind[:80] or 'no Content-Type'} can't be read here; send {JSON} or {CSV}")
    if not found:
        raise ProblemError.at("formulas", 'there are none; send at least one, such as {"formulas": ["MgB2"]}')
    if len(found) > limits.formulas:
        many = f"{len(found):,} are more than the {limits.formulas:,} of one request; send several requests"
        raise ProblemError.at("formulas", many)
    return found


def _from_json(body: bytes) -> list[Any]:
    match json_of(body, '{"formulas": ["MgB2"]}'):
        case {"formulas": list(found), **others}:
            if others:
                raise ProblemError.at(str(next(iter(others)))[:40], "unknown key; the only one is `formulas`")
            return found
    raise ProblemError.at("formulas", 'send a list of formulas, such as {"formulas": ["MgB2", "LaNiAsO"]}')


def _from_csv(body: bytes, limits: Limits) -> list[Any]:
    """No more lines are read than tell that there are too many."""
    try:
        lines = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""), restval="", strict=True)
        if (lines.fieldnames or []).count("formula") == 1:
            return [line["formula"] for line in islice(lines, limits.formulas + 1)]
    except (UnicodeDecodeError, csv.Error):
        raise ProblemError.at("body", "this is no CSV in UTF-8; export it again") from None
    raise ProblemError.at("body", "the CSV has no single column `formula`; name one so in its first line")


def unreadable(formula: Any, limits: Limits) -> str | None:
    """Why a formula isn't even read: it isn't text, or is longer than this service takes."""
    if not isinstance(formula, str):
        return "a formula is text such as 'LaNiAsO'"
    if len(formula) > limits.formula_length:
        return f"too long: this service takes {limits.formula_length} characters a formula"
    return None if formula == writable(formula) else "it holds half of a character; send UTF-8"


def with_reasons(scores: Any, given: Sequence[Any], reasons: Sequence[str | None]) -> Any:
    """The scores (see api.score) with `formula` as it was given, where those that weren't read say why."""
    formulas = [
        each if why is None else writable(str(each)[:80]) for each, why in zip(given, reasons, strict=True)
    ]
    errors = pc.coalesce(pa.array(reasons, pa.string()), scores["error"].combine_chunks())
    return scores.set_column(len(PREDICTED), "error", errors).add_column(0, "formula", [formulas])


def write(scores: Any, version: str, kind: str) -> bytes:
    """The body of an answer."""
    columns = [_plain(scores[name]) for name in COLUMNS]
    rows = (dict(zip(COLUMNS, values, strict=True)) for values in zip(*columns, strict=True))
    if kind == NDJSON:
        return b"".join(to_json(row) + b"\n" for row in rows)
    if kind == CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_harmless, row.values()) for row in rows)
        return text.getvalue().encode("utf-8")
    return to_json({"version": version, "predictions": list(rows)})


def _plain(column: Any) -> list[Any]:
    """A column's values, None where there is none, numbers to as many digits as mean something."""
    if not pa.types.is_floating(column.type):
        return list(column.to_pylist())
    rounded = column.to_numpy().round(_DECIMALS).tolist()
    return [value if value == value else None for value in rounded]


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula of its own gets a quote in front; true and false as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def explained(formula: str, models: Models) -> dict[str, Any]:
    """What the models say of a formula, why, and what would raise its T_c: an Explanation. Raises FormulaError."""
    assert models.known is not None
    amounts = read_formula(formula, models)
    x = amounts / amounts.sum()
    (row,) = score_amounts(amounts[None], models).table.to_pylist()
    if row["status"] != RowStatus.OK.label:
        raise FormulaError("not finite", "its predictions are no finite numbers")
    return {
        "version": models.version,
        "formula": formula,
        "elements": [
            {"symbol": symbol, "amount": amount, "fraction": float(x[INDEX[symbol]])}
            for symbol, amount in parse(formula).items()
        ],
        **{name: row[name] for name in (*PREDICTED, *MORE)},
        "charge": {name: row[name] for name in CHARGE} | {"remark": _remark(row)},
        "neighbours": _nearest_known(x, models.known),
        "known_source": models.known.source,
        "reasons": [
            vars(reason) for reason in reasons_of({**row, "formula": formula}, ef_error(models.cards))
        ],
        "gradient": _slopes(x, models),
    }


def _remark(row: Mapping[str, Any]) -> str:
    """What a person should know of a row's charges; "" where there is nothing to say."""
    states = row["oxidation_states"] or ""
    if row["alloy"]:
        return "One element or metals alone: charges say nothing here."
    if row["undoped"]:
        return f"A cuprate that is {UNDOPED_REMARK}."
    if row["charge_kind"] == "metallic":
        return "A metal, intermetallic or hydride: its charges needn't balance."
    if "*" in states:
        return "Charges balance only if atoms of one element take two oxidation states."
    if not states and row["neutral"] and not row["pauling"]:
        return "Charges balance only with a cation that is more electronegative than an anion."
    return "" if states else "No likely oxidation states of these elements balance."


def _nearest_known(x: Floats, known: KnownMaterials) -> list[dict[str, Any]]:
    """The nearest known compositions by L1 distance of fractions (118,), nearest first; null for what isn't known."""
    distances = np.abs(known.fractions - x).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    tc_k, pressure_gpa = (_plain(pa.array(each[nearest])) for each in (known.tc_k, known.pressure_gpa))
    return [
        {
            "formula": known.formulas[at],
            "distance": round(float(distances[at]), 6),
            "tc_k": tc_k[place],
            "pressure_gpa": pressure_gpa[place],
            "reports": int(known.reports[at]),
            "reference": known.reference[at],
            "doi": doi_of(known.reference[at]),
        }
        for place, at in enumerate(nearest.tolist())
    ]


def _slopes(x: Floats, models: Models) -> list[dict[str, Any]]:
    """What T_c does as each element that the predictors know takes atoms from all others alike: along (1 − δ)x + δe,
    the slope at δ = 0 is ∂T_c/∂x_e − Σ x_j ∂T_c/∂x_j.
    """
    tc = models.predictors.tc
    known = [at for at, symbol in enumerate(SYMBOLS) if symbol not in models.foreign]
    leaf = torch.tensor(x[None], dtype=torch.float32, device=tc.supported.device, requires_grad=True)
    (gradient,) = torch.autograd.grad(tc(leaf).sum(), leaf)
    g = gradient[0].double().cpu().numpy()
    slope = (g - float(x @ g)) / 100
    rows = (1 - STEP) * x + STEP * np.eye(len(SYMBOLS))[known]
    after = values_of(tc, rows.astype(np.float32)).clip(min=0)
    return [
        {
            "symbol": SYMBOLS[at],
            "dtc_k_per_percent": float(slope[at]),
            "tc_with_5_percent_k": float(value),
        }
        for at, value in zip(known, after, strict=True)
    ]
