"""Sweeps: which searches a trial runs, what they score by another judge, what came of all trials. It knows no Ray."""
