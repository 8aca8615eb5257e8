"""Colours and symbols of components."""

from bgmm_jd.reporting.component_styles import (
    component_colours,
    component_handles,
    component_marker,
)


def test_fifty_six_components_differ_in_colour_or_symbol():
    looks = {(tuple(c), component_marker(k)) for k, c in enumerate(component_colours(56))}
    assert len(looks) == 56


def test_legend_names_the_first_components_and_counts_the_others():
    handles = component_handles({k: str(k) for k in range(40)})
    assert [handle.get_label() for handle in handles] == [*map(str, range(16)), "and 24 more"]
    few = component_handles({3: "three", 9: "nine"})
    assert [(h.get_label(), h.get_marker()) for h in few] == [
        ("three", component_marker(3)),
        ("nine", component_marker(9)),
    ]
