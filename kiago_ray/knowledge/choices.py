"""What may be said instead of a file of known compositions, and of one of tried ones."""

from __future__ import annotations

NONE, LANDMARKS, SUPERCON, SHIPPED = "none", "landmarks", "supercon", "shipped"
WORDS = (NONE, LANDMARKS, SUPERCON)
TRIED_WORDS = (NONE, SHIPPED)
