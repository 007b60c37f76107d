"""The predictors as MLflow serves them: the code that goes into the registered model, and that MLflow runs to load it.

It needs kiago-ray where it is loaded, and its `weights`, the only artifact. Nothing here is imported by the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kiago_ray.api import read_formula, score
from kiago_ray.data import NONE
from kiago_ray.models import load_models
from kiago_ray.tracking.model import COLUMNS, EF_STD


class ServedPredictors(PythonModel):
    """A column `formula` in, a row for each out (COLUMNS). A formula that can't be read has its reason in `error`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights of the model. Raises WeightsError."""
        self.models = load_models(context.artifacts["weights"], phases=NONE)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """What the models say of each formula, in the order of the rows."""
        formulas = model_input["formula"].tolist()
        rows: pd.DataFrame = score(formulas, self.models).to_pandas().assign(formula=formulas)
        rows[EF_STD] = np.nan
        good = rows.index[rows["tc_k"].notna()]
        if len(good):
            amounts = np.stack([read_formula(formulas[row], self.models) for row in good])
            ensemble: Any = self.models.predictors.energies["ensemble"]
            _, rows.loc[good, EF_STD] = ensemble.estimates(amounts / amounts.sum(axis=1, keepdims=True))
        told = rows[list(COLUMNS)].astype(object)
        return told.where(told.notna(), None)  # NaN is no JSON


set_model(ServedPredictors())
