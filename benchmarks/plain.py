"""A plain implementation of the search's two stages, to measure ours against.

It works as KIAGO's public code does, in our own words: the periodic-table map of every row is drawn by broadcasting
(rows × 118 × 4 × 7 × 32), the predictors are a textbook ResNet-18 and ElemNet whose weights are trainable, the integer
loss looks at all 118 elements and is computed in stage 1 too, times 0, and torch's Adam moves all rows at once.

`PlainResNet18.of` is our own T_c network in this form; it draws a map for each of its seven functions of the amount.
`PlainResNet18()` is the public code's: one function, 4 channels. It is cheaper, and so the one to be
timed against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import element_map
from kiago_ray.predictors.base import AMOUNTS, amounts
from kiago_ray.predictors.networks import SCALE, ElemNet, ResidualBlock, TapConv, TcResNet

# Where the taps that a small map uses lie in the 3×3 kernel, for the two convolutions of each block.
CORNERS = (((0, 0), (0, 0)),) * 2 + (((1, 0), (1, 0)),) * 4 + (((1, 1), (1, 1)),) * 2


def full_kernel(conv: TapConv, corner: tuple[int, int], size: int) -> Tensor:
    """A `TapConv` as an ordinary (out, in, size, size) kernel whose used taps start at `corner`."""
    high, wide = conv.kernel
    used = conv.weight.view(high, wide, -1, conv.weight.shape[1]).permute(3, 2, 0, 1)
    kernel = used.new_zeros(*used.shape[:2], size, size)
    kernel[:, :, corner[0] : corner[0] + high, corner[1] : corner[1] + wide] = used
    return kernel


class BasicBlock(nn.Module):
    """ResNet's basic block with 3×3 kernels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class PlainResNet18(nn.Module):
    """T_c in K before the final ReLU: fractions (rows, 118) → (rows,)."""

    table: Tensor

    def __init__(self, functions: int = 1) -> None:
        super().__init__()
        self.functions = functions
        self.register_buffer("table", torch.from_numpy(element_map()), persistent=False)
        self.stem = nn.Conv2d(4 * functions, 64, 7, 2, padding=3, bias=False)
        self.stem_norm = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 128, 256, 256, 512, 512)
        self.blocks = nn.Sequential(
            *(BasicBlock(i, o, 1 if i == o else 2) for i, o in zip((64, *widths[:-1]), widths, strict=True))
        )
        self.head = nn.Linear(512, 1)

    @classmethod
    def of(cls, network: TcResNet) -> PlainResNet18:
        """Our T_c network with its own weights."""
        plain = cls(AMOUNTS)
        with torch.no_grad():
            plain.stem.weight.copy_(network.stem.weight)
            plain.stem_norm.load_state_dict(network.stem_norm.state_dict())
            plain.head.load_state_dict(network.head.state_dict())
            for block, ours, (first, second) in zip(plain.blocks, network.blocks, CORNERS, strict=True):
                assert isinstance(block, BasicBlock)
                assert isinstance(ours, ResidualBlock)
                block.conv1.weight.copy_(full_kernel(ours.conv1, first, 3))
                block.conv2.weight.copy_(full_kernel(ours.conv2, second, 3))
                block.norm1.load_state_dict(ours.norm1.state_dict())
                block.norm2.load_state_dict(ours.norm2.state_dict())
                if ours.shortcut is not None:
                    block.shortcut[0].weight.copy_(full_kernel(ours.shortcut[0], (0, 0), 1))
                    block.shortcut[1].load_state_dict(ours.shortcut[1].state_dict())
        return plain.eval()

    def drawn(self, amount: Tensor) -> Tensor:
        """The map of one function of the amount: (rows, 118) → (rows, 4, 7, 32)."""
        return (amount[:, :, None, None, None] * self.table[None]).sum(dim=1)

    def forward(self, fractions: Tensor) -> Tensor:
        functions = amounts(fractions).split(118, dim=1) if self.functions > 1 else (fractions,)
        x = torch.cat([self.drawn(function) for function in functions], dim=1)
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = self.blocks(functional.max_pool2d(x, 3, 2, padding=1))
        return SCALE.tc_k(self.head(x.mean((2, 3))).squeeze(1))


def integer_loss(x: Tensor, totals: Tensor, squared: bool) -> Tensor:
    """Least distance of fractions x (rows, 118) to multiples of 1/N over all N, (rows,)."""
    grid = totals.to(x.dtype)[None, None, :]
    distance = x[:, :, None] - torch.round(x.detach()[:, :, None] * grid) / grid
    distance = distance.square() if squared else distance.abs()
    return distance.sum(dim=1).min(dim=1).values


@dataclass
class PlainSearch:
    """Rows x_base (rows, 118) on their way through both stages, without fixed amounts."""

    tc: nn.Module
    ef: nn.Module
    x_base: Tensor
    mask: Tensor
    alpha: float = 4.0
    learning_rate: float = 0.03
    totals: range = range(1, 26)
    limit: int = 10
    squared: bool = False

    def __post_init__(self) -> None:
        self.x_base = self.x_base.clone().requires_grad_()
        self.adam = torch.optim.Adam([self.x_base], lr=self.learning_rate)

    @classmethod
    def reference_form(cls, x_base: Tensor, mask: Tensor, totals: range = range(1, 26)) -> PlainSearch:
        """With networks of the public code's form and random weights, which cost what trained ones do."""
        torch.manual_seed(0)
        return cls(PlainResNet18().eval(), ElemNet().eval(), x_base, mask, totals=totals)

    def composition(self) -> Tensor:
        """Fractions (rows, 118)."""
        x = torch.relu(self.x_base * self.mask)
        return x / x.sum(dim=1, keepdim=True)

    def objective(self, beta: float) -> Tensor:
        """−T_c + α·E_f + β·L_integer, (rows,)."""
        x = self.composition()
        integer = integer_loss(x, torch.tensor(self.totals), self.squared)
        return -torch.relu(self.tc(x)) + self.alpha * self.ef(x) + beta * integer

    def step(self, stage: int, beta: float = 1.0) -> None:
        """One step of Adam on the mean objective."""
        self.adam.zero_grad()
        self.objective(beta if stage == 2 else 0.0).mean().backward()
        self.adam.step()

    def limit_elements(self) -> None:
        """Before stage 2: the largest elements of each row, and a new Adam."""
        x = self.x_base.detach() * self.mask
        self.mask = torch.zeros_like(self.mask).scatter(1, x.topk(self.limit, dim=1).indices, True)
        self.adam = torch.optim.Adam([self.x_base], lr=self.learning_rate)
