import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from fmrilm.reporting.svg import Frame, Line, extent, number, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.7), (0.0013, 0.0091), (120, 99000)])
def test_ticks_are_round_inside_the_range_and_few(low, high):
    found = ticks(low, high, 4)
    assert 2 <= len(found) <= 9
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = {round(b - a, 12) for a, b in pairwise(found)}
    assert len(steps) == 1
    mantissa = steps.pop() / 10 ** math.floor(math.log10(found[1] - found[0]) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 2.5, 5)


def test_an_empty_or_constant_curve_still_has_a_range():
    assert extent([]) == (0.0, 1.0)
    low, high = extent([2.0, 2.0, math.nan])
    assert low < 2.0 < high


def test_a_chart_is_well_formed_and_escapes_names():
    frame = Frame((200, 100), (0, 3), (0, 1)).axes([0, 1], [0, 1], "<x> & y", "y")
    frame.line(Line([0, 1, 2], [0.1, math.nan, 0.3], "model", "a < b"))
    root = ElementTree.fromstring(frame.render('an "odd" name'))
    assert root.attrib["aria-label"] == 'an "odd" name'
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_a_single_point_is_drawn_as_a_dot():
    text = Frame((200, 100), (1, 2), (0, 1)).line(Line([1], [0.5])).render("one epoch")
    assert "<circle" in text


def test_numbers_are_short():
    assert [number(v) for v in (0.0, 0.25, 1.0, 200.0)] == ["0", "0.25", "1", "200"]
