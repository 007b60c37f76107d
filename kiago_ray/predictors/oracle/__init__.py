"""The judges of what a search found; they never guide it."""
