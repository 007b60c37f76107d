"""The oracle: a second opinion on T_c from another class of model, boosted trees on statistics of element properties.

It shares the data with the T_c networks and nothing else, and no search sees it (an import rule holds that), so no
optimum can exploit it. Sweeps have an oracle of their own, which reads the amounts of the elements: one that chose by
the reporting oracle would choose by its mistakes too. On disk each is LightGBM's text, member after member, gzipped.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import SYMBOLS, Floats, properties
from kiago_ray.chemistry.formula import checked_amounts
from kiago_ray.predictors import weights
from kiago_ray.predictors.weights import ORACLE, TUNING_ORACLE, OracleKind, WeightsError

if TYPE_CHECKING:
    import lightgbm

STATISTICS = ("mean", "deviation", "minimum", "maximum", "range", "absolute_deviation", "most_abundant")
AMOUNTS = ("elements", "norm_2", "norm_3", "norm_7", "entropy", "largest_fraction")
STEP = 1e-4  # what statistics are rounded to, those of a property by its deviation over the elements
# A power of 2: no amount n/N of fewer than 2¹⁷ atoms then lies halfway between two steps.
AMOUNT_STEP = 2.0**-17
SAME_AMOUNT = 1e-5
ROWS_AT_ONCE = 2_048
MAX_TEXT_BYTES = 640 << 20
_FIRST_LINE = "tree\n"  # of each member


def statistic_names() -> tuple[str, ...]:
    """The names of the columns of `composition_statistics`, such as `mean_melting_point_k`."""
    named = [f"{statistic}_{name}" for statistic in STATISTICS for name in properties().names]
    return (*named, *AMOUNTS)


def composition_statistics(fractions: NDArray[np.floating]) -> Floats:
    """Statistics (N, columns) of atomic fractions (N, 118): the "general purpose attributes" of Ward et al., npj
    Comput. Mater. 2, 16028 (2016). Of each property the `STATISTICS`, weighted by the amounts but for minimum, maximum
    and range, the most abundant element being the lightest of several; then the `AMOUNTS`. A row's figures don't
    depend on the rows beside it, and hardly on the amounts' last digits. Raises ValueError as `checked_amounts`.
    """
    rows = checked_amounts(fractions).astype(np.float32)
    parts = [_statistics(rows[at : at + ROWS_AT_ONCE]) for at in range(0, len(rows), ROWS_AT_ONCE)]
    return np.concatenate([np.empty((0, len(statistic_names()))), *parts])


def element_fractions(fractions: NDArray[np.floating]) -> Floats:
    """The amounts (N, 118) to AMOUNT_STEP, so that no tree splits on last digits. Raises as `checked_amounts` does."""
    return np.rint(checked_amounts(fractions) / AMOUNT_STEP) * AMOUNT_STEP


def _statistics(fractions: NDArray[np.float32]) -> Floats:
    rows = fractions.astype(np.float64)
    most = int((rows > 0).sum(axis=1).max())
    abundance = np.rint(rows / SAME_AMOUNT) + (rows > 0)  # a trace still comes before what is absent
    elements = np.argsort(-abundance, axis=1, kind="stable")[:, :most].T  # (most, n), abundant first
    # Sums run over the first axis, one term after the other: there a longer row beside it adds nothing but zeros.
    x = np.take_along_axis(rows.T, elements, axis=0)
    x /= np.cumsum(x, axis=0)[-1]
    held, share = x > 0, x[:, :, None]
    values = properties().values[elements]  # (most, n, p)
    mean = (share * values).sum(axis=0)
    off = values - mean
    lowest = np.where(held[:, :, None], values, np.inf).min(axis=0)
    highest = np.where(held[:, :, None], values, -np.inf).max(axis=0)
    deviation = np.sqrt((share * off**2).sum(axis=0))
    absolute = (share * np.abs(off)).sum(axis=0)
    parts = [mean, deviation, lowest, highest, highest - lowest, absolute, values[0]]
    logs = np.log(x, where=held, out=np.zeros_like(x))
    norms = (np.cumsum(x**power, axis=0)[-1] ** (1 / power) for power in (2, 3, 7))
    amounts = [held.sum(axis=0), *norms, -np.cumsum(x * logs, axis=0)[-1], x.max(axis=0)]
    step = STEP * properties().values.std(axis=0)
    rounded = (np.rint(np.stack(parts, axis=1) / step) * step).reshape(len(rows), -1)
    return np.concatenate([rounded, np.rint(np.stack(amounts, axis=1) / STEP) * STEP], axis=1)


@dataclass(frozen=True)
class Inputs:
    """What the trees of a kind read: `of` makes (N, columns) from compositions (N, 118), `names` names the columns."""

    what: str
    names: Callable[[], tuple[str, ...]]
    of: Callable[[NDArray[np.floating]], Floats]


INPUTS: Mapping[OracleKind, Inputs] = {
    ORACLE: Inputs("composition statistics", statistic_names, composition_statistics),
    TUNING_ORACLE: Inputs("element fractions", lambda: SYMBOLS, element_fractions),
}


@dataclass(frozen=True)
class Oracle:
    """The mean of its members is the opinion, their spread how far they agree."""

    members: tuple[lightgbm.Booster, ...]
    kind: OracleKind = ORACLE

    def predict(self, fractions: NDArray[np.floating], *, num_threads: int = 1) -> tuple[Floats, Floats]:
        """T_c of (N, 118) compositions: mean (N,) and sample deviation (N,) of the members, in K, each at least 0; the
        same to the bit for any threads and neighbours. Raises ValueError as `checked_amounts` does.
        """
        inputs = INPUTS[self.kind].of(fractions)
        each = [np.asarray(member.predict(inputs, num_threads=num_threads)) for member in self.members]
        values = np.stack(each).clip(min=0)
        return values.mean(axis=0), values.std(axis=0, ddof=1)


def save_oracle(members: Sequence[lightgbm.Booster], card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `folder/KIND.txt.gz` and its card `KIND.json`, KIND as the card has it; return the card."""
    content = gzip.compress("".join(map(written, members)).encode(), mtime=0)
    weights.write_weights(content, card, card["kind"], folder)
    return card


def written(member: lightgbm.Booster) -> str:
    """A member as LightGBM writes it, less the lines of each tree that no prediction needs: 40 % of the file."""
    text = str(member.model_to_string(num_iteration=member.best_iteration))
    first, end = text.index("Tree=0\n"), text.index("end of trees\n")
    unread = r"^(split_gain|(leaf|internal)_(weight|count)|internal_value)=.*\n"
    trees = re.sub(unread, "", text[first:end], flags=re.MULTILINE)
    sizes = " ".join(str(len(tree)) for tree in re.split(r"(?=^Tree=)", trees, flags=re.MULTILINE) if tree)
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text[:first], flags=re.MULTILINE)
    return head + trees + text[end:]


def load_oracle(folder: Path | None = None, kind: OracleKind = ORACLE) -> Oracle:
    """The oracle of a kind, from the package or from a folder that `kiago train` wrote. Raises WeightsError."""
    content, _, path = weights.read_weights(kind, folder)
    try:
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(MAX_TEXT_BYTES).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not a gzipped text ({error}): reinstall or train again") from None
    first, *texts = ("\n" + text).split("\n" + _FIRST_LINE)
    if first:
        raise WeightsError(f"{path} holds no LightGBM model: reinstall or train again")
    if len(texts) < 2:
        raise WeightsError(f"{path} holds a single member; an oracle needs two or more for its spread")
    return Oracle(tuple(_member(_FIRST_LINE + each, path, kind) for each in texts), kind)


def _member(text: str, path: Path, kind: OracleKind) -> lightgbm.Booster:
    # Here, as it takes a second that a look at the card doesn't need. LightGBM brings no OpenMP library: it uses
    # torch's, which `weights` has loaded, and so needs none of the system.
    import lightgbm

    try:
        # LightGBM reads past the end of trees that are shorter than the head of the text says.
        sizes = re.search(r"^tree_sizes=([\d ]+)$", text, re.MULTILINE)
        first, end = text.find("Tree=0\n"), text.find("end of trees\n")
        if sizes is None or not 0 < first < end or sum(map(int, sizes[1].split())) != end - first:
            raise ValueError("its trees are cut off")
        member = lightgbm.Booster(model_str=text)
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise WeightsError(f"{path} holds no LightGBM model ({error}): reinstall or train again") from None
    names = INPUTS[kind].names()
    if tuple(member.feature_name()) != names:
        raise WeightsError(
            f"{path} was trained on other inputs than the {len(names)} {INPUTS[kind].what} of this version: "
            f"run `kiago train {kind.removeprefix('tc_').replace('_', '-')}` again"
        )
    return member
