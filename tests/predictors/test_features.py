"""What the networks read of a composition: by hand, smooth and finite."""

from __future__ import annotations

import numpy as np
import torch

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, properties
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.features import COMMON, VALENCE_OF, TcFeatures


def fractions(*formulas: str) -> torch.Tensor:
    return torch.from_numpy(parse_fractions(formulas))


def test_means_and_deviations_are_those_of_the_properties() -> None:
    features = TcFeatures().double()
    x = fractions("La1.85Sr0.15CuO4", "MgB2")
    values = properties().values
    standard = (values - values[:COMMON].mean(0)) / values[:COMMON].std(0)
    mean = x.numpy() @ standard
    deviation = np.sqrt((x.numpy()[:, :, None] * (standard - mean[:, None]) ** 2).sum(1) + 0.02)
    found = features.statistics(x).numpy()
    p = len(properties().names)
    np.testing.assert_allclose(found[:, :p], mean, atol=1e-6)
    np.testing.assert_allclose(found[:, p : 2 * p], deviation, atol=1e-6)


def test_copper_needs_the_charge_that_chemists_count() -> None:
    """Cu is +2 in CaCuO2, +2.33 in YBa2Cu3O7 and +1 in YBa2Cu3O5 (3.0, 7, 1 less what rounding off takes)."""
    features = TcFeatures().double()
    found = features.chemistry(fractions("CaCuO2", "YBa2Cu3O7", "YBa2Cu3O5"))[:, 5 + VALENCE_OF.index("Cu")]
    x = fractions("CaCuO2", "YBa2Cu3O7", "YBa2Cu3O5")[:, INDEX["Cu"]]
    softened = x / (x + 0.01)
    expected = torch.tanh(torch.tensor([2.0, 7 / 3, 1.0]) * softened / 4) * softened
    torch.testing.assert_close(found, expected)


def test_every_feature_has_the_slope_of_its_differences() -> None:
    features = TcFeatures().double()
    x = fractions("YBa2Cu3O7", "LaFeAsO").requires_grad_()
    assert torch.autograd.gradcheck(features, (x,), eps=1e-7, atol=1e-4, fast_mode=True)


def test_features_stay_finite_with_their_slopes_at_single_elements() -> None:
    x = torch.eye(N_ELEMENTS).requires_grad_()
    found = TcFeatures()(x)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert found.isfinite().all()
    assert slope.isfinite().all()
