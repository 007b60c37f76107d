"""Fitting the extrapolation score to known superconductors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from kiago_ray.errors import InputError
from kiago_ray.predictors.extrapolation import CENTRES, COMPONENTS, Extrapolation

PERCENTILE = 95.0
LEAST_SCALE = 1e-3  # of a feature that hardly varies

Floats = NDArray[np.float32]


@torch.no_grad()
def fit_extrapolation(known: Floats, held_out: Floats, *, seed: int) -> Extrapolation:
    """Fit components and centres to known superconductors (N, 118), the unit to held-out ones (M, 118).

    Raises InputError for fewer known ones than there are components.
    """
    if len(known) < COMPONENTS:
        raise InputError(
            f"{len(known)} known superconductors don't span {COMPONENTS} components: use more data"
        )
    network = Extrapolation()
    described = network.features.described(torch.from_numpy(known)).double().numpy()
    mean, scale = described.mean(axis=0), described.std(axis=0) + LEAST_SCALE
    principal = PCA(COMPONENTS, whiten=True, random_state=seed).fit((described - mean) / scale)
    whitened = principal.components_ / np.sqrt(principal.explained_variance_)[:, None]
    points = (described - mean) / scale @ whitened.T
    count = min(CENTRES, len(points))
    clusters = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(points)
    for name, array in (
        ("centre", mean),
        ("projection", (whitened / scale).T),
        (
            "centres",
            np.resize(clusters.cluster_centers_, (CENTRES, COMPONENTS)),
        ),  # over again where there are fewer
    ):
        getattr(network, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
    distances = network.distance(torch.from_numpy(held_out)).numpy()
    network.unit.fill_(float(np.percentile(distances, PERCENTILE)))
    return network.eval()
