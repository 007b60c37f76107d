from __future__ import annotations

from kiago_ray.screening.screens import REQUIRED, available_screens, load_screen_recall


def test_every_figure_is_of_a_screen_and_a_share() -> None:
    measured = load_screen_recall()
    assert set(measured.screens) <= {*available_screens(), REQUIRED}
    assert {"neutral", "pauling", "ef_negative", "few_elements", "balanced", REQUIRED} <= set(
        measured.screens
    )
    for passing in measured.screens.values():
        assert all(share is None or 0 <= share <= 1 for share in vars(passing).values())
    assert measured.superconductors == measured.swaps >= 1000


def test_what_default_requires_lets_the_known_pass() -> None:
    default = load_screen_recall().screens[REQUIRED]
    assert default.recall is not None
    assert default.recall_above_30_k is not None
    assert default.recall >= 0.9
    assert default.recall_above_30_k >= 0.95
