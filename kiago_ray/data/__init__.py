"""What is known: the tables that ship with the package, and the readers of raw public files behind them.

The words stand for a shipped table where a specification may also name a file: of known compositions (`WORDS`), and of
what was tried (`TRIED_WORDS`).
"""

from __future__ import annotations

NONE, LANDMARKS, SUPERCON, SHIPPED = "none", "landmarks", "supercon", "shipped"
WORDS = (NONE, LANDMARKS, SUPERCON)
TRIED_WORDS = (NONE, SHIPPED)
