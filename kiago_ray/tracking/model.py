"""The predictors as one model of MLflow's registry: saved with the code that loads it, and linked by what used it.

A version of the model is known by a tag that changes with any of the weights, so none is registered twice. Its
artifacts are the weights as they lie on disk, safetensors and the trees' text, with their cards; nothing is pickled.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kiago_ray import __version__
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import (
    ENERGIES,
    NETWORKS,
    ORACLE,
    PLAUSIBILITY,
    WeightsError,
    file_name,
    folder_with,
    kinds_in,
    load_card,
    read_weights,
    shipped_weights,
    version_of,
)
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import leaves, versions
from kiago_ray.storage.table import description
from kiago_ray.tracking.store import NOTE, Entry, Point, Store, metrics_of, mlflow_at_hand, usable_key
from kiago_ray.tracking.target import (
    TrackingError,
    TrackingTarget,
    artifact_root,
    is_server,
    shown_uri,
    tracking_target,
)

MODEL, EXPERIMENT = "kiago-predictors", "kiago predictors"
EF_STD = "ef_std_ev_per_atom"
_NUMBERS = (
    "tc_k tc_std_k tc_oracle_k tc_oracle_std_k extrapolation ef_ev_per_atom ef_std_ev_per_atom plausibility "
    "measured_tc_k"
)
COLUMNS = ("formula", *_NUMBERS.split(), "known", "error")  # of an answer
EXAMPLE = ("MgB2", "YBa2Cu3O7", "LaFeAsO0.9F0.1")
_VERSION, _MODEL_ID = "kiago.weights", "kiago.model_id"  # tags of a registered version
_LINK = "kiago.model"  # tag of a run: the URI of the version that it used
_TARGETS = {"supercon": "tc_k", "oqmd": "ef_ev_per_atom", "materials_project": "ef_ev_per_atom"}
_DIGEST = 36  # characters, MLflow's limit


class Registered(NamedTuple):
    """A version of the registered model."""

    version: str
    model_id: str

    @property
    def uri(self) -> str:
        """By which MLflow loads and serves it."""
        return f"models:/{MODEL}/{self.version}"


def weights_at_hand(folder: Path | None) -> dict[str, Path]:
    """The folder of each kind of weights that the model takes: those of `folder`, and shipped ones for the rest. A
    folder that `--weights` would take keeps to its own networks of T_c.
    """
    own = kinds_in(folder)
    whole = "ef" in own and any(kind.startswith("tc") for kind in own)
    kinds = dict.fromkeys((*(own if whole else NETWORKS), ENERGIES, ORACLE, PLAUSIBILITY))
    return {kind: folder_with(kind, folder) or shipped_weights() for kind in kinds}


def cards_at_hand(folder: Path | None) -> dict[str, dict[str, Any]]:
    """The cards of `weights_at_hand`. Raises WeightsError."""
    return {kind: load_card(kind, place) for kind, place in weights_at_hand(folder).items()}


def link_model(
    store: Store,
    run_id: str,
    hashes: Mapping[str, str],
    target: TrackingTarget,
    root: str | None,
    folder: Path | None,
) -> None:
    """Name the registered model that a run used as its input; register it where it is at hand and not there yet.
    hashes: SHA-256 of the run's weights by kind. folder: with its weights, None for the shipped ones. Raises MLflow's
    errors.
    """
    from mlflow.entities import LoggedModelInput

    if _LINK in store.client.get_run(run_id).data.tags:
        return
    found = None
    with suppress(WeightsError):  # a record may be sent from where the weights aren't
        cards = cards_at_hand(folder)
        if all(hashes.get(kind) == card["sha256"] for kind, card in cards.items()):
            found = register(target, root, folder)
    if found is not None:
        store.client.log_inputs(run_id, models=[LoggedModelInput(found.model_id)])
        store.client.set_tag(run_id, _LINK, found.uri)


def register(target: TrackingTarget, root: str | None, folder: Path | None = None) -> Registered:
    """The registered version with the weights of `folder`, by default the shipped ones: found, or made with a run that
    has their figures. Raises WeightsError, MLflow's errors.
    """
    cards = cards_at_hand(folder)
    digest = version_of({kind: card["sha256"] for kind, card in cards.items()})
    store = Store(replace(target, experiment=EXPERIMENT), root)
    client = store.client
    for each in client.search_model_versions(f"name = '{MODEL}'"):
        if each.tags.get(_VERSION) == digest and _MODEL_ID in each.tags:
            return Registered(str(each.version), each.tags[_MODEL_ID])
    run_id = store.write(_entry(cards, digest))
    model = client.create_logged_model(
        store.experiment,
        name=MODEL,
        source_run_id=run_id,
        tags={_VERSION: digest, NOTE: _note(cards)},
        params={f"sha256.{kind}": card["sha256"] for kind, card in cards.items()},
        model_type="pyfunc",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="kiago-") as scratch:
            client.log_model_artifacts(
                model.model_id, str(_save(Path(scratch), folder, model.model_id, run_id))
            )
        _tell_learnt(client, run_id, model.model_id, cards)
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    return _as_version(client, target, model, run_id, digest, _note(cards))


def registered(uri: str | None, folder: Path | None = None) -> str:
    """Register the predictors of `folder` at `uri`, else where MLFLOW_TRACKING_URI or runs/mlflow.db is, and say in a
    line how they are served. Raises TrackingError, WeightsError.
    """
    beside = Location.of("runs/predictors")
    target = tracking_target(beside, uri, EXPERIMENT)
    assert target is not None  # runs/ is local
    try:
        with mlflow_at_hand():
            found = register(target, artifact_root(target, beside), folder)
    except InputError:
        raise
    except Exception as error:
        raise TrackingError(target.in_words(error)) from None
    where = f"MLFLOW_TRACKING_URI={shlex.quote(shown_uri(target.uri))}"
    return f"{found.uri}; to serve it: {where} mlflow models serve -m {found.uri} --env-manager local"


def _as_version(
    client: Any, target: TrackingTarget, model: Any, run_id: str, digest: str, note: str
) -> Registered:
    """A logged model as a version of the registered one."""
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(
            MODEL, description="The predictors of kiago-ray. Formulas in, T_c and more out."
        )
    # A database would look a model's URI up in MLflow's global store, which isn't this one.
    source = f"models:/{model.model_id}" if is_server(target) else model.artifact_location
    tags = {_VERSION: digest, _MODEL_ID: model.model_id, "kiago_ray": __version__}
    made = client.create_model_version(MODEL, source, run_id, tags, description=note, model_id=model.model_id)
    shown = json.dumps([{"name": MODEL, "version": made.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})
    return Registered(str(made.version), model.model_id)


def _save(scratch: Path, folder: Path | None, model_id: str, run_id: str) -> Path:
    """The model in a folder below `scratch`, which is returned. Raises WeightsError for damaged weights."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    weights, saved = scratch / "weights", scratch / "model"
    weights.mkdir()
    for kind, place in weights_at_hand(folder).items():
        read_weights(kind, place)
        for name in (file_name(kind), f"{kind}.json"):
            shutil.copyfile(place / name, weights / name)
    texts = ("formula", "known", "error")
    answer: list[Any] = [
        ColSpec("string" if name in texts else "double", name, required=name == "formula") for name in COLUMNS
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of type hints that this model doesn't need
        pyfunc.save_model(
            str(saved),
            mlflow_model=Model(model_id=model_id, run_id=run_id),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"weights": str(weights)},
            signature=ModelSignature(Schema([ColSpec("string", "formula")]), Schema(answer)),
            input_example=pd.DataFrame({"formula": EXAMPLE}),
            pip_requirements=[f"kiago-ray=={__version__}"],
        )
    return saved


def _entry(cards: Mapping[str, Mapping[str, Any]], digest: str) -> Entry:
    """The run that stands for the model."""
    return Entry(
        id=f"predictors/{digest}",
        name="predictors",
        status="FINISHED",
        params={f"{kind}.sha256": card["sha256"] for kind, card in cards.items()},
        tags={**versions(), NOTE: _note(cards), "mlflow.source.name": "kiago", "mlflow.source.type": "LOCAL"},
        points=list,  # which are told with the model that they are of
        folder=Location.of(shipped_weights()),
    )


def _tell_learnt(client: Any, run_id: str, model_id: str, cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Name what the weights learnt from, the run's output, and the figures on held-out rows as the model's own."""
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    metrics = list[Any]()
    for kind, card in cards.items():
        sources = log_data(client, run_id, card)
        name, digest = sources[0] if sources else (None, None)
        of: Any = {"model_id": model_id, "dataset_name": name, "dataset_digest": digest, "run_id": run_id}
        metrics += metrics_of(card_points(kind, card), **of)
    client.log_batch(run_id, metrics=metrics)


def log_data(client: Any, run_id: str, card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name the files that a card says the weights learnt from as the run's datasets; their names and digests."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    named, inputs = list[tuple[str, str]](), []
    reports = card.get("data")
    for report in reports if isinstance(reports, list) else ():
        colspec = [{"type": "string", "name": "formula", "required": True}]
        colspec += [{"type": "double", "name": _TARGETS.get(report["kind"], "value"), "required": True}]
        profile = {name: report[name] for name in ("rows_read", "rows_kept", "duplicates_merged", "dropped")}
        dataset = Dataset(
            report["kind"],
            report["sha256"][:_DIGEST],
            "local",
            json.dumps({"uri": report["file"]}),
            json.dumps({"mlflow_colspec": colspec}),
            json.dumps({"num_rows": report["rows_kept"], **profile}),
        )
        held_back = report["rows_kept"] == card.get("literature", {}).get("rows")  # which no fit saw
        context = "evaluation" if held_back else "training"
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
        named.append((dataset.name, dataset.digest))
    if inputs:
        client.log_inputs(run_id, datasets=inputs)
    return named


def card_points(kind: str, card: Mapping[str, Any]) -> list[Point]:
    """The figures of a card on rows that no fit saw, by both splits where it has them; a section of charts a kind."""
    figures = {name: card[name] for name in ("splits", "literature", "held_out") if name in card}
    if "splits" in figures:  # else it is the rule by which rows are held out
        figures.pop("held_out", None)
        figures |= figures.pop("splits")
    return [
        Point(f"{kind}/{usable_key(path)}", float(value))
        for path, value in leaves(figures)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _note(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """What a person reads of the model."""
    said = "\n".join(f"- `{name}`: {_meaning(name)}" for name in COLUMNS[1:-1])
    trained = ", ".join(
        f"{kind} ({card.get('trained', card.get('year', ''))})" for kind, card in cards.items()
    )
    return (
        "**The predictors of kiago-ray.** Give a table with the column `formula`; each row of the answer has\n\n"
        f"{said}\n- `error`: why nothing is known of this formula.\n\n"
        f"Weights: {trained}. Metrics are of rows that no fit saw: `random`, held out by formula, and `system`, by "
        "chemical system. What the models say far from what is known means little: see `extrapolation`.\n\n"
        f"`mlflow models serve -m models:/{MODEL}/VERSION --env-manager local` answers where kiago-ray is installed."
    )


def _meaning(name: str) -> str:
    return "Standard deviation of ef_ev_per_atom, in eV/atom." if name == EF_STD else description(name)
