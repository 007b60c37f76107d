"""One example of each answer, for the description of the API. What models and storage gave for MgB2, shortened."""

from __future__ import annotations

from typing import Any

_VERSION = "9a6769d9fd4a"
_VALUES: dict[str, Any] = {
    "tc_k": 35.8,
    "tc_std_k": 4.0,
    "tc_oracle_k": 35.6,
    "tc_oracle_std_k": 0.7,
    "extrapolation": 0.17,
    "ef_ev_per_atom": 0.357,
    "e_hull_ev_per_atom": 0.423,
    "plausibility": 0.0007,
    "existence": 0.34,
    "plausibility_reason": "B replaced Al wholly in 1 known relative; in part up to 100 %",
    "expected_improvement_k": 0.45,
    "best_nearby": "Mg0.7Be0.3B2",
    "best_nearby_tc_k": 39.0,
    "oxidation_states": "Mg+2 B-1",
    "charge_kind": "metallic",
    "mean_valences": None,
    "holes_per_cu": None,
    "undoped": None,
    "nearest_known": "MgB2",
    "nearest_distance": 0.0,
    "nearest_tc_k": 38.6,
    "nearest_reference": "Phys. Rev. B 63 (2001) 224522",
    "known": "MgB2",
    "made": "COD 1000026, space group 191",
    "passed": True,
}
PREDICTIONS: dict[str, Any] = {
    "version": _VERSION,
    "predictions": [{"formula": "MgB2", **_VALUES, "error": None}],
}
EXPLANATION: dict[str, Any] = {
    "version": _VERSION,
    "formula": "MgB2",
    "elements": [
        {"symbol": "Mg", "amount": 1.0, "fraction": 0.333},
        {"symbol": "B", "amount": 2.0, "fraction": 0.667},
    ],
    **_VALUES,
    "trusted_tc_k": 31.6,
    "extrapolated": False,
    "gain": False,
    "nearest_pressure_gpa": None,
    "charge": {
        "neutral": True,
        "pauling": True,
        "balanced": True,
        "alloy": False,
        "charge_kind": "metallic",
        "oxidation_states": "Mg+2 B-1",
        "charge_nats_per_atom": 0.667,
        "mean_valences": None,
        "holes_per_cu": None,
        "undoped": None,
        "remark": "A metal, intermetallic or hydride: its charges needn't balance.",
    },
    "neighbours": [
        {
            "formula": "MgB2",
            "distance": 0.0,
            "tc_k": 38.6,
            "pressure_gpa": None,
            "reports": 100,
            "reference": "Phys. Rev. B 63 (2001) 224522",
        }
    ],
    "known_source": "SuperCon v220808 and landmark superconductors, as shipped",
    "reasons": [
        {
            "side": "for",
            "sentence": "Boosted trees on element properties, which the search never sees, put T_c at 36 K; the "
            "search's model says 36 K: within their spreads.",
            "brief": "oracle agrees, 36 K",
        }
    ],
    "gradient": [{"symbol": "H", "dtc_k_per_percent": 1.17, "tc_with_5_percent_k": 28.4}],
}
_ID = "20261123T170728480179-0eda4529ea487525"
JOB: dict[str, Any] = {
    "id": _ID,
    "state": "running",
    "submitted_at": "2026-11-23T17:07:28Z",
    "started_at": "2026-11-23T17:07:29Z",
    "ended_at": None,
    "base": "MgB2",
    "preset": "default",
    "candidates": 64,
    "spec": None,
    "progress": {"done": 120, "total": 400, "unit": "steps", "phase": "searching"},
    "place_in_queue": None,
    "error": None,
    "summary": None,
    "links": {
        "self": f"/v1/searches/{_ID}",
        "events": f"/v1/searches/{_ID}/events",
        "candidates": f"/v1/searches/{_ID}/candidates",
    },
    "plots": [],
}
JOBS: dict[str, Any] = {"total": 1, "searches": [JOB]}
CANDIDATES: dict[str, Any] = {
    "total": 1,
    "offset": 0,
    "limit": 100,
    "candidates": [{"rank": 1, "formula": "MgB2", "tc_k": 35.8, "trusted_tc_k": 31.6, "passed": False}],
}
MODELS: dict[str, Any] = {
    "service": {"kiago_ray": "0.1.0"},
    "version": _VERSION,
    "known": {"source": "SuperCon v220808 and landmark superconductors, as shipped", "compositions": 13900},
    "elements": ["H", "Li", "Be", "B"],
    "models": [
        {"kind": "ef", "name": "formation energy, ElemNet", "sha256": "…", "card": {"unit": "eV/atom"}}
    ],
    "limits": {"formulas": 10_000},
    "presets": {"default": {"candidates": 512}},
}
HEALTH: dict[str, Any] = {"status": "ok", "version": _VERSION}
PROBLEM: dict[str, Any] = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "candidates: 5,000 are more than this service's 4,096",
    "instance": "/v1/searches",
    "request_id": "0f9c6f4e0d5b4f6c8d1f3a2b4c5d6e7f",
    "errors": [{"where": "candidates", "message": "candidates: 5,000 are more than this service's 4,096"}],
}
