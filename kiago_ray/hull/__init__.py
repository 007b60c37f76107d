"""Energy above the convex hull (section 3.4): competing phases of a user's file, their energies, the hull."""

from __future__ import annotations

from kiago_ray.hull.energy_hull import EnergyHull, HullPlace, Phases, judge, load_phases

__all__ = ["EnergyHull", "HullPlace", "Phases", "judge", "load_phases"]
