"""Maps and charts: places lie where they should, and lines say what happened."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import cos, radians
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ordermill.geo import Point
from services.console import maps
from services.console.charts import step_chart, thinned
from services.console.maps import HEIGHT, WIDTH, albers, draw_map, equirectangular, is_contiguous_us

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
EDISON, SPARKS = Point(40.5325, -74.3375), Point(39.5502, -119.7178)
ANCHORAGE, BERLIN = Point(61.2, -149.9), Point(52.5, 13.4)


def test_albers_is_as_in_snyders_worked_example():
    """USGS Professional Paper 1395, p. 291: 35 N 75 W from 23 N 96 W on a sphere of radius 1."""
    assert albers(Point(35, -75)) == pytest.approx((0.2952720, 0.2416774), abs=1e-6)


def test_albers_keeps_areas():
    """A cell of one degree has the area of the sphere's: the cosine of its latitude times a square degree."""
    for lat in (27.0, 38.0, 47.0):
        size = 0.01
        south_west, south_east, north_west = (
            albers(Point(lat, -100)), albers(Point(lat, -100 + size)), albers(Point(lat + size, -100))
        )  # fmt: skip
        a = (south_east[0] - south_west[0], south_east[1] - south_west[1])
        b = (north_west[0] - south_west[0], north_west[1] - south_west[1])
        expected = radians(size) ** 2 * cos(radians(lat + size / 2))
        assert a[0] * b[1] - a[1] * b[0] == pytest.approx(expected, rel=1e-3)


def test_equirectangular_is_degrees_in_radians():
    assert equirectangular(Point(90, -180)) == pytest.approx((-3.14159265, 1.57079633))


def test_a_map_of_the_contiguous_states_has_the_states_and_all_places_on_it():
    drawn = draw_map([EDISON, SPARKS])
    assert len(drawn.areas) == 49
    edison, sparks = drawn.spots
    assert 0 < sparks.x < WIDTH / 2 < edison.x < WIDTH
    assert all(0 < spot.y < HEIGHT for spot in drawn.spots)


@pytest.mark.parametrize("far", [ANCHORAGE, BERLIN, Point(-33.9, 151.2)])
def test_a_destination_elsewhere_is_on_a_map_of_that_part_of_the_earth(far):
    drawn = draw_map([EDISON, SPARKS, far])
    assert "Germany" in dict(drawn.areas) or far is not BERLIN
    for spot in drawn.spots:
        assert 0 < spot.x < WIDTH and 0 < spot.y < HEIGHT


POINTS = st.builds(Point, st.floats(-85, 85), st.floats(-180, 180))


@example([Point(24.0, -121.0)])
@given(st.lists(POINTS, min_size=1, max_size=4))
def test_any_places_are_on_their_map_east_to_the_right_and_north_up(points):
    drawn = draw_map(points)
    assert drawn.areas or not all(map(is_contiguous_us, points))
    for spot in drawn.spots:
        assert 0 <= spot.x <= WIDTH and 0 <= spot.y <= HEIGHT
    if not all(map(is_contiguous_us, points)):
        for one, at in zip(points, drawn.spots, strict=True):
            for other, there in zip(points, drawn.spots, strict=True):
                assert one.lon >= other.lon or at.x <= there.x
                assert one.lat >= other.lat or at.y >= there.y


def test_the_outlines_are_small_and_say_where_they_are_from():
    folder = Path(maps.__file__).parent / "outlines"
    assert sum(path.stat().st_size for path in folder.glob("*.json")) < 100_000
    readme = (folder / "README.md").read_text()
    for path in folder.glob("*.json"):
        assert path.name in readme


def test_a_step_holds_until_the_next_change():
    points = [(MONDAY, (0, 0)), (MONDAY + timedelta(hours=12), (10, 5))]
    chart = step_chart(points, MONDAY, MONDAY + timedelta(days=1), UTC)
    left, right = chart.left, chart.right
    middle = (left + right) / 2
    zero = next(y for y, label in chart.up if label == "0")
    ten = next(y for y, label in chart.up if label == "10")
    assert chart.paths[0] == f"M{float(left)} {zero}H{middle}V{ten}H{float(right)}"
    assert [label for _, label in chart.across] == ["09:00", "15:00", "21:00", "03:00", "09:00"]


def test_a_chart_that_goes_below_zero_shows_it():
    chart = step_chart([(MONDAY, (3, -4))], MONDAY, MONDAY + timedelta(days=1), UTC)
    heights = {label: y for y, label in chart.up}
    assert heights["-4"] > heights["0"]
    assert max(heights.values()) <= chart.bottom


@given(st.lists(st.tuples(st.integers(-50, 10_000), st.integers(-50, 10_000)), min_size=1, max_size=2_000))
def test_a_long_history_is_thinned_but_keeps_its_ends_and_extremes(values):
    points = [(MONDAY + timedelta(minutes=n), pair) for n, pair in enumerate(values)]
    kept = thinned(points)
    assert len(kept) <= 520
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert kept == sorted(kept, key=lambda point: point[0])
    for series in (0, 1):
        for end in (min, max):
            assert end(p[1][series] for p in kept) == end(p[1][series] for p in points)
    chart = step_chart(points, MONDAY, MONDAY + timedelta(minutes=len(points)), UTC)
    for path in chart.paths:
        for y in map(float, re.findall(r"V([\d.-]+)", path)):
            assert 0 <= y <= chart.height


def test_labels_of_neighbors_do_not_lie_on_each_other():
    edison, brooklyn = draw_map([EDISON, Point(40.694, -73.9903)]).spots
    one, other = maps.labels([(edison, "1 Edison"), (brooklyn, "2 Brooklyn")])
    assert abs(one.y - other.y) >= 15
    assert {one.anchor, other.anchor} == {"end"}
