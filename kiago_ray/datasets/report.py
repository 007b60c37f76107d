"""What became of a file's rows: read, dropped and why, merged, kept (in model cards, and printed)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiago_ray.datasets.files import Contents

MAX_EXAMPLES = 5  # a reason
MAX_EXAMPLE_LENGTH = 80  # characters


@dataclass(frozen=True)
class LoadReport:
    """The account of one loaded file; its rows add up: read = dropped + merged into another + kept.

    `kind` is one of `formats.KINDS`, `file` the name without its folder, `sha256` that of the file as it lies
    on the disk. `dropped` counts rows by reason, most frequent first, and `examples` gives up to five of
    each.
    """

    kind: str
    file: str
    sha256: str
    rows_read: int
    dropped: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    duplicates_merged: int
    rows_kept: int
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        accounted = sum(self.dropped.values()) + self.duplicates_merged + self.rows_kept
        if accounted != self.rows_read:
            raise ValueError(f"{self.file}: {self.rows_read} rows read, {accounted} accounted for")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and texts, for JSON."""
        return {
            "kind": self.kind,
            "file": self.file,
            "sha256": self.sha256,
            "rows_read": self.rows_read,
            "dropped": dict(self.dropped),
            "examples": {reason: list(examples) for reason, examples in self.examples.items()},
            "duplicates_merged": self.duplicates_merged,
            "rows_kept": self.rows_kept,
            "warnings": list(self.warnings),
        }


class Tally:
    """Counts dropped rows while a loader goes through a file."""

    def __init__(self, kind: str, contents: Contents) -> None:
        self._kind = kind
        self._contents = contents
        self._dropped: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def drop(self, reason: str, line: int, value: str) -> None:
        """Count one row out; `value` is what was wrong in it."""
        self._dropped[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < MAX_EXAMPLES:
            shown = value if len(value) <= MAX_EXAMPLE_LENGTH else value[: MAX_EXAMPLE_LENGTH - 1] + "…"
            examples.append(f"line {line}: {shown!r}")

    def report(self, rows_kept: int) -> LoadReport:
        """The account, given how many rows (compositions) the merged table has."""
        rows_read = len(self._contents.rows)
        ordered = sorted(self._dropped.items(), key=lambda item: (-item[1], item[0]))
        return LoadReport(
            kind=self._kind,
            file=self._contents.file,
            sha256=self._contents.sha256,
            rows_read=rows_read,
            dropped=dict(ordered),
            examples={reason: tuple(self._examples[reason]) for reason, _ in ordered},
            duplicates_merged=rows_read - sum(self._dropped.values()) - rows_kept,
            rows_kept=rows_kept,
            warnings=self._contents.warnings,
        )
