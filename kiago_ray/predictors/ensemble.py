"""T_c by an ensemble, its calibrated standard deviation, and how far out a composition lies.

K residual networks on `TcFeatures`, evaluated together as batched products, differ by their initial weights and by the
fold of chemical systems that each leaves out. Their mean in kelvin, before any ReLU, is T_c; their disagreement says
how little is known there. A search may climb the lower bound μ − κσ − w·max(score − `FREE`, 0) instead of μ: then it
doesn't pay to go where the networks disagree or know nothing.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, standard_properties
from kiago_ray.chemistry.oxidation import state_shares
from kiago_ray.predictors.base import (
    AMOUNTS,
    BATCH_ROWS,
    Inference,
    LogScale,
    Predictors,
    amounts,
    buffer,
)

SCALE = LogScale(60.0, highest=3.0)  # above 60 K errors count by their share of T_c; below it, alike
MEMBERS = 6
WIDTH = 384
DEPTH = 2
DROPOUT = 0.06
AMOUNT_SCALE = 0.25  # of the functions of the amounts, which are 0 for most elements
FURTHEST = 3.0  # extrapolation scores beyond it count as this
LEAST_STD_K = 0.3
SEEN_K = 250.0  # the range of T_c in the training data, from none to LaH10's under 170 GPa
COMPONENTS = 24
CENTRES = 512
SOFTNESS = 0.25  # of the squared distances that share in the nearest
FREE = 0.8  # of the score; a little below the flag at 1, so that the integer formula nearby isn't flagged

TRANSITION_METALS = "Ti V Cr Mn Fe Co Ni Cu Zn Nb Mo Ru Rh Pd Ag Ta W Re Os Ir Pt Au"
VALENCE_OF = ("Cu", "Fe", "Ni", "Bi", "Ru", "Nb")
BESIDE_COPPER = ("O", "Ca", "Ba", "Sr", "Y", "Tl", "Hg", "Bi", "La", "Pb")
BESIDE_IRON = ("As", "Se", "O", "Co", "Te")
LITTLE = 0.01  # of all atoms; rounds off where an amount meets 0
LEAST = 1e-3
LEAST_VARIANCE = 0.02  # so that a trace of an element with another property makes no jump
LOG_SCALE = 50.0
CHARGE_SCALE = 4.0

Values = TypeVar("Values", Tensor, NDArray[np.float64])


class TcFeatures(nn.Module):
    """Fractions (rows, 118) → (rows, features): `amounts` of each element, then statistics and chemistry."""

    def __init__(self) -> None:
        super().__init__()
        self.properties = buffer(standard_properties())
        self.charges = buffer([next(iter(shares), 0) for shares in state_shares()])  # the most frequent
        transition = np.zeros(N_ELEMENTS)
        transition[[INDEX[symbol] for symbol in TRANSITION_METALS.split()]] = 1
        self.transition = buffer(transition)
        self.valence_of, self.beside_copper, self.beside_iron = (
            nn.Buffer(torch.tensor([INDEX[s] for s in symbols]), persistent=False)
            for symbols in (VALENCE_OF, BESIDE_COPPER, BESIDE_IRON)
        )

    def forward(self, fractions: Tensor) -> Tensor:
        return torch.cat([amounts(fractions), self.described(fractions)], dim=1)

    def described(self, fractions: Tensor) -> Tensor:
        """All but the amounts of single elements: statistics, valences and ratios."""
        return torch.cat([self.statistics(fractions), self.chemistry(fractions)], dim=1)

    def statistics(self, fractions: Tensor) -> Tensor:
        """Mean, deviation and skewness of the p properties (Ward et al., npj Comput. Mater. 2, 16028 (2016)), weighted
        by fractions and by their logarithms, where a doping counts for more; measures of mixing: (rows, 6·p + 3).
        """
        parts = []
        for weights in (fractions, torch.log1p(LOG_SCALE * fractions)):
            share = weights / weights.sum(dim=1, keepdim=True)
            mean, square, cube = (share @ self.properties**power for power in (1, 2, 3))
            deviation = (square - mean**2 + LEAST_VARIANCE).sqrt()
            parts += [mean, deviation, (cube - 3 * mean * square + 2 * mean**3) / 5]
        entropy = -(fractions * (fractions + LEAST).log()).sum(dim=1)  # x·ln x alone has no slope at 0
        mixing = [entropy, (fractions**2).sum(dim=1), (fractions**3).sum(dim=1)]
        return torch.cat([*parts, torch.stack(mixing, dim=1)], dim=1)

    def chemistry(self, fractions: Tensor) -> Tensor:
        """The charge that each of six metals needs for neutrality where every other element has its most frequent
        state (the holes of a cuprate, the electrons of an iron pnictide), and amounts beside copper and iron, which
        say layer and site where plain fractions don't: (rows, 26).
        """
        charge, metals = fractions @ self.charges, fractions @ self.transition
        others = charge - fractions @ (self.charges * self.transition)
        anions = fractions @ (self.charges < 0).to(fractions)
        oxygen = fractions[:, INDEX["O"]]
        need = torch.tanh(-others / (metals + 2 * LITTLE) / CHARGE_SCALE)
        general = [charge, need, metals, anions, oxygen / (oxygen + metals + LITTLE)]
        held = fractions[:, self.valence_of]
        needed = (held * self.charges[self.valence_of] - charge[:, None]) / (held + LITTLE)
        valence = torch.tanh(needed / CHARGE_SCALE) * held / (held + LITTLE)
        ratios = []
        for index, symbol in ((self.beside_copper, "Cu"), (self.beside_iron, "Fe")):
            amount = fractions[:, index]
            ratios.append(amount / (amount + fractions[:, INDEX[symbol], None] + LITTLE))
        return torch.cat([torch.stack(general, dim=1), valence, *ratios], dim=1)


class BatchedLinear(nn.Module):
    """K linear layers side by side: (K, rows, inputs) → (K, rows, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * gain / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.to(x.dtype), x, self.weight.to(x.dtype))


class BatchedBlock(nn.Module):
    """A residual block of each member: norm, layer, SiLU, layer."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, 1, width))
        self.first = BatchedLinear(members, width, width, 2**0.5)
        self.second = BatchedLinear(members, width, width, 0.2**0.5)

    def forward(self, x: Tensor, dropout: float) -> Tensor:
        inner = functional.silu(self.first(normed(x, self.scale).to(self.first.weight.dtype)))
        inner = functional.dropout(inner, dropout, self.training)
        return x + cast(Tensor, self.second(inner)).to(x.dtype)


class TcEnsemble(nn.Module):
    """ln(1 + T_c / 60 K) of each of K networks, unclipped: fractions (rows, 118) → (rows, K)."""

    def __init__(self, members: int = MEMBERS, width: int = WIDTH) -> None:
        super().__init__()
        self.members = members
        self.features = TcFeatures()
        inputs = self.features(torch.full((1, N_ELEMENTS), 1 / N_ELEMENTS)).shape[1]
        self.centre, self.scale = nn.Buffer(torch.zeros(inputs)), nn.Buffer(torch.ones(inputs))
        self.entry = BatchedLinear(members, inputs, width, 1.0)
        self.blocks = nn.ModuleList(BatchedBlock(members, width) for _ in range(DEPTH))
        self.last_scale = nn.Parameter(torch.ones(members, 1, width))
        self.head = BatchedLinear(members, width, 1, 0.1**0.5)

    @torch.no_grad()
    def standardise(self, fractions: Tensor) -> TcEnsemble:
        """The network itself, with centre and scale of the features fitted to training rows (N, 118)."""
        features, drawn = self.features(fractions), AMOUNTS * N_ELEMENTS
        self.centre.copy_(features.mean(dim=0))[:drawn] = 0
        self.scale.copy_(features.std(dim=0) + 1e-3)[:drawn] = AMOUNT_SCALE
        return self

    def forward(self, fractions: Tensor) -> Tensor:
        with torch.autocast(fractions.device.type, enabled=False):  # dopings need all 24 bits
            seen = (self.features(fractions) - self.centre) / self.scale
            x = self.entry(seen.expand(self.members, -1, -1))
        for block in self.blocks:
            x = block(x, DROPOUT)
        last = functional.dropout(normed(x, self.last_scale), DROPOUT, self.training)
        with torch.autocast(last.device.type, enabled=False):
            return cast(Tensor, self.head(last))[..., 0].T


def normed(x: Tensor, scale: Tensor) -> Tensor:
    """Root-mean-square norm over the last axis, times a scale."""
    return functional.rms_norm(x, (x.shape[-1],)) * scale


class Spread(nn.Module):
    """`terms` (rows, 4) → standard deviation σ of T_c in K (rows,). Members agree too well on systems that none of
    them saw, so ln σ is linear in the terms, with coefficients from held-out rows (`training.recipes`).

    σ is at most SEEN_K, as who knows nothing of a T_c still knows that range; below it, σ is to the bit what the terms
    say. Where the bound holds, the slopes are those of the terms nevertheless, so that a search which climbs a lower
    bound is still led back from there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Buffer(torch.tensor([0.0, 1.0, 0.0, 0.0]))

    def forward(self, terms: Tensor) -> Tensor:
        std = (terms @ self.coefficients.to(terms)).exp() + LEAST_STD_K
        return torch.where(std > SEEN_K, SEEN_K + (std - std.detach()), std)

    @staticmethod
    def terms(mean_k: Tensor, disagreement_k: Tensor, extrapolation: Tensor) -> Tensor:
        """Of T_c, disagreement and extrapolation, (rows,) each; smooth at 0 K, so that a search can follow them."""
        height = torch.log1p(functional.softplus(mean_k) / 10)
        furthest = extrapolation.clamp(max=FURTHEST)
        return torch.stack([torch.ones_like(mean_k), torch.log1p(disagreement_k), height, furthest], dim=1)


class Extrapolation(nn.Module):
    """Fractions (rows, 118) → score (rows,): above 1 further out than 95 % of known superconductors never seen.

    A composition is a point of the networks' statistics and ratios, without amounts of single elements, whitened by
    principal components. The score is the soft distance to the nearest k-means centres of known superconductors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = TcFeatures()
        inputs = self.features.described(torch.full((1, N_ELEMENTS), 1 / N_ELEMENTS)).shape[1]
        self.centre, self.unit = nn.Buffer(torch.zeros(inputs)), nn.Buffer(torch.ones(1))
        self.projection = nn.Buffer(torch.zeros(inputs, COMPONENTS))
        self.centres = nn.Buffer(torch.zeros(CENTRES, COMPONENTS))

    def distance(self, fractions: Tensor) -> Tensor:
        """Soft distance to the nearest centres, (rows,): at least the exact one less ~SOFTNESS·ln(centres)/2."""
        point = (self.features.described(fractions) - self.centre) @ self.projection
        square = (point**2).sum(1, keepdim=True) - 2 * point @ self.centres.T + (self.centres**2).sum(1)
        nearest = -SOFTNESS * torch.logsumexp(-square / SOFTNESS, dim=1)
        return (nearest.clamp(min=0) + 1e-6).sqrt()

    def forward(self, fractions: Tensor) -> Tensor:
        return self.distance(fractions) / self.unit


class Estimate(NamedTuple, Generic[Values]):
    """Each (rows,), in K: T_c before the final ReLU, its deviation and the members' own; the extrapolation score."""

    tc_k: Values
    tc_std_k: Values
    disagreement_k: Values
    extrapolation: Values


class CalibratedEnsemble(Inference):
    """T_c in K before the final ReLU, the mean of the ensemble, or its lower bound: fractions (rows, 118) → (rows,).

    kappa, extrapolation_weight: of the lower bound, which has the mean beside it; 0 for the mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = TcEnsemble()
        self.extrapolation = Extrapolation()
        self.spread = Spread()
        self.supported = nn.Buffer(torch.ones(N_ELEMENTS, dtype=torch.bool), persistent=False)
        self.kappa = self.extrapolation_weight = 0.0

    def lower_bound(self, kappa: float, extrapolation_weight: float) -> CalibratedEnsemble:
        """A copy with μ − κσ − w·max(score − FREE, 0) in K as its value, w being the extrapolation's weight."""
        copied = copy.deepcopy(self)
        copied.kappa, copied.extrapolation_weight = kappa, extrapolation_weight
        copied.beside = int(bool(kappa or extrapolation_weight))
        return copied

    def wide_layers(self) -> list[nn.Module]:
        return [*self.ensemble.blocks]

    def direct(self, x: Tensor) -> Tensor:
        if not self.beside:
            return SCALE.tc_k(self.ensemble(x)).mean(dim=1)
        estimate = self.estimate(x)
        beyond = (estimate.extrapolation - FREE).relu()
        bound = estimate.tc_k - self.kappa * estimate.tc_std_k - self.extrapolation_weight * beyond
        return torch.stack((bound, estimate.tc_k.detach()), dim=1)

    def estimate(self, fractions: Tensor) -> Estimate[Tensor]:
        """What the ensemble says of fractions (rows, 118), with slopes."""
        members = SCALE.tc_k(self.ensemble(fractions))
        mean = members.mean(dim=1)
        variance = (members - mean[:, None]).square().sum(dim=1) / (members.shape[1] - 1)
        disagreement, score = (variance + 1e-6).sqrt(), self.extrapolation(fractions)
        std = self.spread(Spread.terms(mean, disagreement, score))
        return Estimate(mean, std, disagreement, score)

    @torch.no_grad()
    def estimates(self, fractions: NDArray[np.floating]) -> Estimate[NDArray[np.float64]]:
        """`estimate` of fractions (N, 118) in batches, as arrays (N,)."""
        rows = torch.from_numpy(np.asarray(fractions, dtype=np.float32)).to(self.supported.device)
        parts = [self.estimate(batch) for batch in torch.split(rows, BATCH_ROWS)]
        return Estimate(*(torch.cat(each).double().cpu().numpy() for each in zip(*parts, strict=True)))


def with_lower_bound(predictors: Predictors, kappa: float, extrapolation_weight: float) -> Predictors:
    """The predictors with the lower bound as T_c, where `tc` is the ensemble; any other has no spread and stays."""
    if not isinstance(predictors.tc, CalibratedEnsemble):
        return predictors
    return replace(predictors, tc=predictors.tc.lower_bound(kappa, extrapolation_weight))
