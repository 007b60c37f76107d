"""The oracle: a second opinion on T_c from another class of model, boosted trees on statistics of element properties.

It shares the data with the T_c network and nothing else: no map, no amounts of single elements, no gradient. A search
never sees it (a test of the imports holds that), so what a search's optimum exploits in the networks it need not find
here. Sweeps that choose a search's settings have an oracle of their own, which reads the amounts of the elements: one
that chose by the reporting oracle would choose by its mistakes too. On disk each is LightGBM's own text, one member
after another, gzipped, beside a model card with its SHA-256.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.predictors.oracle.statistics import check_compositions, composition_statistics, statistic_names
from kiago_ray.predictors.weights import WeightsError, read_weights, write_weights

if TYPE_CHECKING:
    import lightgbm


OracleKind = Literal["tc_oracle", "tc_tuning_oracle"]
KIND: OracleKind = "tc_oracle"
"""Reports; statistics of element properties."""
TUNING_KIND: OracleKind = "tc_tuning_oracle"
"""Chooses among settings of a search and never reports; amounts of the elements."""
AMOUNT_STEP = 2.0**-17
"""A power of 2: no amount n/N of fewer than 2¹⁷ atoms then lies halfway between two steps."""
MAX_TEXT_BYTES = 640 << 20
ENDING = "txt.gz"
ROWS_AT_ONCE = 16_384
_FIRST_LINE = "tree\n"  # of each member


@dataclass(frozen=True)
class Inputs:
    """What the trees of a kind read: `of` makes (N, columns) from compositions (N, 118), `names` names the columns."""

    what: str
    names: Callable[[], tuple[str, ...]]
    of: Callable[[NDArray[np.floating]], NDArray[np.float64]]


def element_fractions(fractions: NDArray[np.floating]) -> NDArray[np.float64]:
    """The amounts themselves, (N, 118), rounded to AMOUNT_STEP, so that no tree splits on their last digits.

    Raises ValueError for another shape, for negative or missing amounts and for empty rows.
    """
    check_compositions(fractions)
    return np.rint(fractions.astype(np.float64) / AMOUNT_STEP) * AMOUNT_STEP


INPUTS: Mapping[OracleKind, Inputs] = {
    KIND: Inputs("composition statistics", statistic_names, composition_statistics),
    TUNING_KIND: Inputs("element fractions", lambda: SYMBOLS, element_fractions),
}


@dataclass(frozen=True)
class Oracle:
    """The mean of its members is the opinion, their spread how far they agree."""

    members: tuple[lightgbm.Booster, ...]
    kind: OracleKind = KIND

    def predict(
        self, fractions: NDArray[np.floating], *, num_threads: int = 1
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """T_c of (N, 118) compositions: mean (N,) and sample deviation (N,) of the members, in K, each at least 0.

        The same to the bit for any number of threads and whatever rows stand beside. Raises ValueError for
        compositions that the inputs of its kind refuse.
        """
        mean, spread = np.empty(len(fractions)), np.empty(len(fractions))
        for start in range(0, len(fractions), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            inputs = INPUTS[self.kind].of(fractions[rows])
            values = np.stack(
                [np.asarray(member.predict(inputs, num_threads=num_threads)) for member in self.members]
            ).clip(min=0)
            mean[rows], spread[rows] = values.mean(axis=0), values.std(axis=0, ddof=1)
        return mean, spread


def save_oracle(members: Sequence[lightgbm.Booster], card: dict[str, Any], folder: Path) -> Path:
    """Write `folder/KIND.txt.gz` and its card `KIND.json`, KIND as the card has it; return the first's path."""
    content = gzip.compress("".join(map(written, members)).encode(), mtime=0)
    return write_weights(content, card, card["kind"], ENDING, folder)


def written(member: lightgbm.Booster) -> str:
    """A member as LightGBM writes it, less the lines of each tree that no prediction needs: 40 % of the file."""
    text = str(member.model_to_string(num_iteration=member.best_iteration))
    first, end = text.index("Tree=0\n"), text.index("end of trees\n")
    unread = r"^(split_gain|(leaf|internal)_(weight|count)|internal_value)=.*\n"
    trees = re.sub(unread, "", text[first:end], flags=re.MULTILINE)
    sizes = " ".join(str(len(tree)) for tree in re.split(r"(?=^Tree=)", trees, flags=re.MULTILINE) if tree)
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text[:first], flags=re.MULTILINE)
    return head + trees + text[end:]


def load_oracle(folder: Path | None = None, kind: OracleKind = KIND) -> Oracle:
    """The oracle of that kind from the package, or from a folder that `kiago train` wrote.

    Raises WeightsError for a missing or damaged file, a wrong hash and models of other inputs.
    """
    content, _, path = read_weights(kind, folder, ENDING)
    return Oracle(tuple(_member(text, path, kind) for text in _texts(content, path)), kind)


def _command(kind: OracleKind) -> str:
    return f"kiago train {kind.removeprefix('tc_').replace('_', '-')}"


def _texts(content: bytes, path: Path) -> list[str]:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(MAX_TEXT_BYTES).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not a gzipped text ({error}): reinstall or train again") from None
    if not text.startswith(_FIRST_LINE):
        raise WeightsError(f"{path} holds no LightGBM model: reinstall or train again")
    texts = [_FIRST_LINE + part for part in ("\n" + text).split("\n" + _FIRST_LINE)[1:]]
    if len(texts) < 2:
        raise WeightsError(f"{path} holds a single member; an oracle needs two or more for its spread")
    return texts


def _member(text: str, path: Path, kind: OracleKind) -> lightgbm.Booster:
    # Here, as it takes a second that a look at the card doesn't need. LightGBM brings no OpenMP library: it uses
    # torch's, which `weights` has loaded, and so needs none of the system.
    import lightgbm

    if not _whole(text):
        raise WeightsError(f"{path} holds no LightGBM model, or half of one: reinstall or train again")
    try:
        member = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise WeightsError(f"{path} holds no LightGBM model ({error}): reinstall or train again") from None
    names = INPUTS[kind].names()
    if tuple(member.feature_name()) != names:
        raise WeightsError(
            f"{path} was trained on other inputs than the {len(names)} {INPUTS[kind].what} of this version: "
            f"run `{_command(kind)}` again"
        )
    return member


def _whole(text: str) -> bool:
    """Whether the trees have the lengths that the head of the text gives: LightGBM reads past the end otherwise."""
    sizes = re.search(r"^tree_sizes=([\d ]+)$", text, re.MULTILINE)
    first, end = text.find("Tree=0\n"), text.find("end of trees\n")
    return sizes is not None and 0 < first < end and sum(map(int, sizes[1].split())) == end - first
