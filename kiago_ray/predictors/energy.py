"""E_f by an ensemble of networks on sets of elements, on the scale of OQMD or of the Materials Project.

A composition is a set of its elements, each with an amount, as in Roost (Goodall and Lee, Nat. Commun. 11, 6280, 2020)
and CrabNet (Wang et al., npj Comput. Mater. 7, 77, 2021). Block after block each element sees the mean over all atoms
of what the others say (Deep Sets, Zaheer et al., 2017); in the end each says its share of E_f. Both means weigh by the
amounts, so an element that comes in changes E_f smoothly from 0 on and has a slope while it is absent.

OQMD and the Materials Project differ by corrections for each element, fitted to compounds that both hold; what is left
of the difference a flag tells. E_f is OQMD's; the hull's competing phases are the Materials Project's (`on_scale`).
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS, standard_properties
from kiago_ray.predictors.base import BATCH_ROWS, Inference, buffer

Scale = Literal["oqmd", "materials_project"]
SCALES: tuple[Scale, ...] = get_args(Scale)
MEMBERS = 3
WIDTH, INNER_WIDTH, DEPTH = 128, 256, 3
CENTRES, CENTRE_WIDTH = 16, 0.06  # of bells over the root of the amount
ROOT_SHIFT = 1e-3  # gives the root a finite slope at 0
LEAST_STD_EV = 0.005
DIGITS = 9  # of an energy in eV/atom that stands in a table
LEAST_DISAGREEMENT_EV = 0.002
ROWS_WITH_SLOPES = 64  # at a time: then every element is a token, present or not
DEVICE_ROWS_WITH_SLOPES = 1024  # some 2 GB on a GPU


class SetBlock(nn.Module):
    """A residual block: each element beside the mean over the atoms of its row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.said = nn.Linear(WIDTH, INNER_WIDTH)
        self.own = nn.Linear(WIDTH, INNER_WIDTH, bias=False)
        self.heard = nn.Linear(INNER_WIDTH, INNER_WIDTH)
        self.gate = nn.Linear(INNER_WIDTH, INNER_WIDTH)
        self.out = nn.Linear(INNER_WIDTH, WIDTH)

    def forward(self, x: Tensor, amount: Tensor, row: Tensor, rows: int) -> Tensor:
        """x: (tokens, WIDTH) of elements; amount, row: (tokens,) atomic fraction and number of its row."""
        seen = self.norm(x).to(self.own.weight.dtype)
        said = functional.silu(self.said(seen))
        weighed = said * amount[:, None].to(said.dtype)
        mean = weighed.new_zeros(rows, INNER_WIDTH).index_add_(0, row, weighed)
        inner = functional.silu(self.own(seen) + self.heard(mean)[row]) * (1 + self.gate(mean))[row]
        return x + cast(Tensor, self.out(inner)).to(x.dtype)


class EnergyNet(nn.Module):
    """E_f in eV/atom of one member: fractions (rows, 118) → (rows,)."""

    def __init__(self) -> None:
        super().__init__()
        self.properties = buffer(standard_properties().clip(-4, 4))
        self.centres = buffer(np.linspace(0, 1, CENTRES))
        self.element = nn.Embedding(N_ELEMENTS, WIDTH)
        nn.init.normal_(self.element.weight, std=0.5)
        self.source = nn.Embedding(len(SCALES), WIDTH)
        nn.init.normal_(self.source.weight, std=0.1)
        self.described = nn.Linear(self.properties.shape[1], WIDTH)
        self.amount = nn.Sequential(nn.Linear(CENTRES + 2, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.blocks = nn.ModuleList(SetBlock() for _ in range(DEPTH))
        self.norm, self.inner, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, fractions: Tensor, source: Tensor, held: Tensor | None = None) -> Tensor:
        """source: (rows,) places in SCALES. held: (rows, 118) the elements that are tokens, by default those present;
        an absent one changes no value, and has a slope where it is a token.
        """
        row, z = torch.nonzero(fractions != 0 if held is None else held, as_tuple=True)
        amount = fractions[row, z]
        with torch.autocast(fractions.device.type, enabled=False):  # small amounts need 24 bits
            drawn = self.amount(self.amount_functions(amount))
        x = self.element(z) + self.described(self.properties[z]) + drawn + self.source(source)[row]
        for block in self.blocks:
            x = block(x, amount, row, len(fractions))
        shares = self.head(functional.silu(self.inner(self.norm(x))))[:, 0].to(fractions.dtype)
        return fractions.new_zeros(len(fractions)).index_add_(0, row, amount * shares)

    def amount_functions(self, amount: Tensor) -> Tensor:
        """(tokens,) → (tokens, CENTRES + 2): the amount, its root, and bells over the root."""
        root = (amount + ROOT_SHIFT).sqrt()[:, None]
        return torch.cat(
            [amount[:, None], root, torch.exp(-(((root - self.centres) / CENTRE_WIDTH) ** 2))], dim=1
        )


class EnergyEnsemble(Inference):
    """E_f in eV/atom, the mean of the members: fractions (rows, 118) → (rows,), on the scale `scale`.

    corrections: (118,) eV/atom of each element's share that lead from OQMD to the Materials Project. spread: on each
    scale the coefficients of ln σ, linear in 1 and the logarithm of the members' disagreement. skew: how much of the
    disagreement is added to their mean on each scale: where they know little, calculated energies lie above what is
    usual rather than below. Both are fitted to held-out rows.
    """

    capturable = False  # how many elements a batch holds decides shapes

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(EnergyNet() for _ in range(MEMBERS))
        self.corrections = nn.Buffer(torch.zeros(N_ELEMENTS))
        self.known = nn.Buffer(torch.ones(N_ELEMENTS))
        self.spread = nn.Buffer(torch.tensor([[0.0, 1.0]] * len(SCALES)))
        self.skew = nn.Buffer(torch.zeros(len(SCALES)))
        self.scale: Scale = "oqmd"

    @property
    def supported(self) -> Tensor:  # type: ignore[override]
        return self.known > 0

    def on_scale(self, scale: Scale) -> EnergyEnsemble:
        """The same weights, with E_f on this scale."""
        copied = copy.copy(self)
        copied.__dict__.pop("_double", None)
        copied.scale = scale
        return copied

    @cached_property
    def _double(self) -> EnergyEnsemble:
        return copy.deepcopy(self).double()

    def wide_layers(self) -> list[nn.Module]:
        blocks = [block for member in self.members for block in cast(EnergyNet, member).blocks]
        return [layer for block in blocks for layer in block.children() if isinstance(layer, nn.Linear)]

    def chunk(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor | None]:
        rows = ROWS_WITH_SLOPES if x.device.type == "cpu" else DEVICE_ROWS_WITH_SLOPES
        pieces = torch.split(x, rows) if gradients else (x,)
        found = [super(EnergyEnsemble, self).chunk(piece, gradients) for piece in pieces]
        slopes = [slope for _, slope in found if slope is not None]
        return torch.cat([values for values, _ in found]), torch.cat(slopes) if slopes else None

    def direct(self, x: Tensor) -> Tensor:
        return self.combined(self.of_members(x))

    def of_members(self, x: Tensor) -> Tensor:
        """E_f of each member in eV/atom, (rows, 118) → (rows, MEMBERS)."""
        source = torch.full((len(x),), SCALES.index(self.scale), device=x.device)
        held = (x != 0) | self.supported if x.requires_grad else None
        values = torch.stack([member(x, source, held) for member in self.members], dim=1)
        if self.scale == "oqmd":
            return values
        return values + (x @ self.corrections)[:, None]

    def combined(self, members: Tensor) -> Tensor:
        """E_f in eV/atom, (rows,), of the members' (rows, MEMBERS)."""
        return members.mean(dim=1) + self.skew[SCALES.index(self.scale)] * disagreement(members)

    @torch.no_grad()
    def estimates(self, fractions: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """E_f and its standard deviation in eV/atom, (N,) each, of fractions (N, 118), in batches. In double precision
        and rounded, so that a row has the same digits beside any others.
        """
        if not len(fractions):
            return np.zeros(0), np.zeros(0)
        rows = torch.from_numpy(np.asarray(fractions, dtype=np.float64)).to(self.corrections.device)
        members = torch.cat([self._double.of_members(batch) for batch in torch.split(rows, BATCH_ROWS)])
        ef, std = self._double.combined(members), self._double.sigma(members)
        return ef.round(decimals=DIGITS).cpu().numpy(), std.round(decimals=DIGITS).cpu().numpy()

    def sigma(self, members: Tensor) -> Tensor:
        """σ in eV/atom, (rows,), of the members' values (rows, MEMBERS)."""
        coefficients = self.spread[SCALES.index(self.scale)].to(members)
        return (self.terms(members) @ coefficients).exp() + LEAST_STD_EV

    @staticmethod
    def terms(members: Tensor) -> Tensor:
        """What ln σ is linear in, of the members' values (rows, MEMBERS): (rows, 2)."""
        apart = disagreement(members)
        return torch.stack([torch.ones_like(apart), apart.log()], dim=1)


def disagreement(members: Tensor) -> Tensor:
    """How far the members' values (rows, MEMBERS) lie apart, in eV/atom, (rows,): their standard deviation, rounded
    off at 0, where it would have no slope.
    """
    return (members.var(dim=1) + LEAST_DISAGREEMENT_EV**2).sqrt()
