"""Judging what a search proposed: named screens, ranking, a summary. Nothing here reads or writes files."""
