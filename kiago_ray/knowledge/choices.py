"""What may be said instead of a file of known compositions."""

from __future__ import annotations

NONE, LANDMARKS, SUPERCON = "none", "landmarks", "supercon"
WORDS = (NONE, LANDMARKS, SUPERCON)
