"""Heat maps: colours as matplotlib has them, in the right place, and scales with true numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import colormaps
from PIL import Image, ImageFont

from veduta.explanation import Explanation
from veduta.explanation.map_panels import map_panel, method_panels, pair_panels
from veduta.explanation.strongest_region import strongest_region
from veduta.explanation.wording import arithmetic, strongest, subject
from veduta.pages.contact_sheet import wrapped
from veduta.pages.explanation_sheet import (
    MAX_PANELS,
    MapPanel,
    draw_map,
    draw_map_sheet,
    write_map_sheet,
)
from veduta.pages.heat_map import HeatScale, draw_heat_map
from veduta.text import printable

GREY = np.full((90, 120, 3), 128, np.uint8)
WHOLE = (0, 0, 120, 90)


def drawn(
    values: np.ndarray, box: tuple[int, int, int, int] = WHOLE, **options: object
) -> np.ndarray:
    chosen = {"size": (120, 90), **options}
    scale = chosen.pop("scale", None) or HeatScale.of([values])
    return np.asarray(draw_heat_map(GREY, values, box, scale, **chosen)).astype(int)


def one_hot(row: int, column: int, value: float = 1.0) -> np.ndarray:
    values = np.zeros((9, 12), np.float32)
    values[row, column] = value
    return values


def lightness(rgb: np.ndarray) -> np.ndarray:
    """Return L* of CIE Lab, in [0, 100]."""
    shares = rgb / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def without_green_cones(rgb: np.ndarray) -> np.ndarray:
    """Return colours as people without green cones see them (Machado et al., TVCG 2009)."""
    shares = rgb / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = (
        linear
        @ np.array(
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.01182, 0.04294, 0.968881],
            ]
        ).T
    )
    seen = np.clip(seen, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("scale", "name"), [(HeatScale(0, 1), "inferno"), (HeatScale(-1, 1), "coolwarm")]
)
def test_colours_are_those_of_matplotlib(scale: HeatScale, name: str) -> None:
    theirs = 255 * colormaps[name](np.arange(256))[:, :3]
    ours = scale.colours(np.linspace(scale.low, scale.high, 256))
    assert np.abs(ours - theirs).max() < 8


def test_lightness_rises_along_the_scale_over_a_photo() -> None:
    steps = np.diff(lightness(HeatScale(0, 1).over_grey(33)))
    assert steps.min() > 0.25
    assert steps.max() < 3 * steps.mean()


def test_both_sides_of_a_signed_scale_weigh_the_same() -> None:
    shown = lightness(HeatScale(-2, 2).over_grey(33))
    assert np.argmax(shown) in range(15, 18)
    assert shown[0] == pytest.approx(shown[-1], abs=6)
    assert (np.diff(shown[:16]) > 0).all()
    assert (np.diff(shown[18:]) < 0).all()


def test_signs_differ_for_people_who_do_not_see_green() -> None:
    low, *_, high = without_green_cones(HeatScale(-1, 1).over_grey(9))
    assert high[0] - low[0] > 25
    assert low[2] - high[2] > 40


def test_the_scale_of_values_from_zero_on() -> None:
    scale = HeatScale.of([np.array([[0.0, 0.5]], np.float32), np.array([[2.0]], np.float32)])
    assert (scale.low, scale.high, scale.signed) == (0.0, 2.0, False)
    assert scale.numbers == (0.0, 1.0, 2.0)


def test_the_scale_of_signed_values_has_zero_in_its_middle() -> None:
    scale = HeatScale.of([np.array([[-0.25, 2.0]], np.float32)])
    assert (scale.low, scale.high, scale.numbers) == (-2.0, 2.0, (-2.0, 0.0, 2.0))
    middle = scale.colours(np.zeros(1))[0]
    assert np.ptp(middle) < 20  # grey


def test_a_map_of_zeros_has_one_number_and_the_colour_of_zero() -> None:
    scale = HeatScale.of([np.zeros((3, 3), np.float32)])
    assert scale.numbers == (0.0,)
    assert (drawn(np.zeros((3, 3), np.float32)) == drawn(one_hot(0, 0))[-1, 0]).all()


def test_single_pixels_do_not_set_the_scale_of_a_fine_map() -> None:
    fine = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    fine[0, :5] = 50.0
    scale = HeatScale.of([fine])
    assert scale.clipped
    assert scale.high == pytest.approx(0.99, abs=0.005)
    assert scale.texts == ("0", "0.495", "0.991 or more")
    signed = HeatScale.of([fine - 0.25])
    assert signed.texts[0].endswith(" or less") and signed.texts[2].endswith(" or more")
    sparse = np.zeros((100, 100), np.float32)
    sparse[3, 3] = 2.0
    assert HeatScale.of([sparse]) == HeatScale(0, 2), "nothing else would be seen"
    assert not HeatScale.of([fine[:50, :50]]).clipped


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(wrong: float) -> None:
    values = one_hot(0, 0, wrong)
    with pytest.raises(ValueError, match="infinite or no numbers"):
        HeatScale.of([values])
    with pytest.raises(ValueError, match="infinite or no numbers"):
        drawn(values, scale=HeatScale(0, 1))


@pytest.mark.parametrize("box", [(120, 0, 10, 10), (-20, 0, 20, 90), (0, 90, 120, 4)])
def test_a_box_beside_the_photo_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not in the photo of 120 × 90 pixels"):
        drawn(one_hot(0, 0), box)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 11), (8, 0), (4, 6)])
def test_a_cell_is_drawn_where_it_lies(row: int, column: int) -> None:
    picture = drawn(one_hot(row, column))
    y, x = np.unravel_index(lightness(picture).argmax(), picture.shape[:2])
    assert (row * 10 - 2 <= y < row * 10 + 12) and (column * 10 - 2 <= x < column * 10 + 12)


def test_a_crop_is_coloured_and_the_rest_is_pale() -> None:
    picture = drawn(np.ones((4, 4), np.float32), (30, 20, 60, 50), size=(240, 180))
    inside, outside = picture[60:120, 90:150], picture[:20]
    assert (np.ptp(inside, axis=-1) > 40).all()  # yellow
    assert (np.ptp(outside, axis=-1) == 0).all()
    assert outside.min() > 190
    assert picture[40, 70:170].min() > 225  # a white line at the edge of the crop
    assert picture[41, 70:170].max() < 80  # and its dark edge


def test_a_map_of_a_padded_photo_may_reach_beyond_it() -> None:
    values = np.zeros((4, 4), np.float32)
    values[:, 3] = 1.0
    picture = drawn(values, (-40, 0, 120, 90))
    assert lightness(picture[45, 75]) > 1.5 * lightness(picture[45, 20])


def test_enlarging_makes_no_value_larger() -> None:
    steps = np.zeros((9, 12), np.float32)
    steps[:, 6:] = 1.0
    picture = drawn(steps)
    at_zero, at_one = drawn(one_hot(0, 11))[-1, 0], drawn(np.ones((2, 2), np.float32))[0, 0]
    assert (picture[:, 5] == at_zero).all()
    assert (picture[:, -5] == at_one).all()


def test_the_photo_stays_readable_under_the_colours() -> None:
    photo = np.zeros((90, 120, 3), np.uint8)
    photo[:, ::2] = 255
    for value in (0.0, 1.0):
        values = np.full((9, 12), value, np.float32)
        picture = draw_heat_map(photo, values, WHOLE, HeatScale(0, 1), size=(120, 90))
        shown = lightness(np.asarray(picture).astype(int))
        assert shown[:, 10:110:2].mean() - shown[:, 11:110:2].mean() > 20


@settings(max_examples=25)
@given(
    arrays(
        np.float32, st.tuples(*[st.integers(1, 20)] * 2), elements=st.floats(-1e6, 1e6, width=32)
    ),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_map_on_any_photo(values: np.ndarray, photo_size: tuple[int, int]) -> None:
    width, height = photo_size
    photo = np.zeros((height, width, 3), np.uint8)
    box = (0, 0, width, height)
    region = strongest_region(values, box, photo_size)
    if region is not None:
        assert 0 < region.share_of_sum <= 1 + 1e-9
        assert 0 < region.share_of_photo <= 1
        x, y, w, h = region.box
        assert 0 <= x <= x + w <= width and 0 <= y <= y + h <= height
    picture = draw_heat_map(
        photo,
        values,
        box,
        HeatScale.of([values]),
        size=(40, 30),
        outlined=None if region is None else region.cells,
    )
    assert picture.size == (40, 30)


def test_the_strongest_region_by_hand() -> None:
    values = np.zeros((6, 10), np.float32)
    values[0, 4:6] = 3.0  # the heaviest part
    values[5, 0] = 4.0
    values[3, 9] = -50.0
    values[2, 2:8] = 0.5
    region = strongest_region(values, (0, 0, 100, 60), (100, 60))
    assert region is not None
    assert region.place == "upper middle"
    assert region.share_of_sum == pytest.approx(6 / 13)
    assert region.share_of_photo == pytest.approx(2 / 60)
    assert region.box == (40, 0, 20, 10)
    assert np.argwhere(region.cells).tolist() == [[0, 4], [0, 5]]


def test_a_crop_holds_a_smaller_part_of_the_photo() -> None:
    values = np.zeros((2, 2), np.float32)
    values[1, 1] = 1.0
    region = strongest_region(values, (50, 0, 50, 100), (100, 100))
    assert region is not None
    assert (region.place, region.share_of_photo) == ("lower right", pytest.approx(0.125))
    assert region.box == (75, 50, 25, 50)


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (0, 0, "upper left"),
        (1, 1, "centre"),
        (2, 1, "right"),
        (0, 1, "left"),
        (1, 2, "lower middle"),
    ],
)
def test_places_in_words(x: int, y: int, place: str) -> None:
    values = np.zeros((3, 3), np.float32)
    values[y, x] = 1.0
    region = strongest_region(values, (0, 0, 9, 9), (9, 9))
    assert region is not None and region.place == place


@pytest.mark.parametrize("values", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((5, 3), 0.2)])
def test_no_region_stands_out(values: np.ndarray) -> None:
    assert strongest_region(values.astype(np.float32), (0, 0, 8, 8), (8, 8)) is None


def test_single_pixels_of_a_fine_map_are_no_region() -> None:
    values = np.zeros((64, 64), np.float32)
    values[60, 60] = 1.0
    values[0:16, 0:16] = 0.1
    region = strongest_region(values, (0, 0, 64, 64), (64, 64))
    assert region is not None
    assert region.place == "upper left"
    assert region.cells.shape == (16, 16)


def explained(**changes: object) -> Explanation:
    known = {
        "photo": "/photos/gate.jpg",
        "pixels": GREY,
        "map": one_hot(0, 6, 0.25),
        "box": WHOLE,
        "method": "shares",
        "similarity": 0.75,
        "constant": 0.5,
    }
    return Explanation(**{**known, **changes})


def test_words() -> None:
    assert subject(explained()) == "similarity 0.750"
    assert arithmetic(explained()) == "sum 0.2500 + constant 0.5000 = similarity 0.7500"
    near = arithmetic(explained(similarity=0.74))
    assert near == "sum 0.2500 + constant 0.5000 is about similarity 0.7400"
    of_class = {"similarity": None, "class_name": "gate", "score": -0.75, "constant": -1.0}
    assert subject(explained(**of_class)) == "class gate, score -0.750"
    assert arithmetic(explained(**of_class)) == "sum 0.2500 - constant 1.0000 = score -0.7500"
    assert arithmetic(explained(constant=None)) == ""
    assert strongest(explained()) == "upper middle: 100 % of the positive sum in 1 % of the photo"
    assert strongest(explained(map=np.zeros((2, 2), np.float32))) == "no region stands out"


def test_the_panels_of_a_pair_share_a_scale() -> None:
    other = explained(photo="/photos/b.jpg", map=one_hot(3, 3, -0.5))
    first, second = pair_panels(explained(against=other))
    assert first.scale == second.scale == HeatScale(-0.5, 0.5)
    assert (first.title, second.title) == ("shares: gate.jpg", "shares: b.jpg")
    assert len(method_panels([explained(against=other)])) == 2
    assert [one.map is None for one in method_panels([explained(), explained()])] == [
        True,
        False,
        False,
    ]


def test_the_answer_to_a_region_has_its_own_scale_and_the_region_is_outlined() -> None:
    other = explained(photo="/photos/b.jpg", map=one_hot(3, 3, 0.01))
    asked = explained(against=other, region=(2, 1, 3, 4), region_share=0.0125)
    first, second = pair_panels(asked)
    assert (first.scale, second.scale) == (HeatScale(0, 0.25), HeatScale(0, np.float32(0.01)))
    assert second.title == "answers to the region: b.jpg"
    said = "the chosen region adds 0.0125: 0.0100 on the other map + 0.0025 of the constant"
    assert first.lines[-1] == said
    rows, columns = np.nonzero(first.outlined)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 2, 4)
    assert first.outlined.shape == GREY.shape[:2]
    assert not pair_panels(explained(against=other))[0].lines[-1].startswith("the chosen")


def test_a_sheet_has_room_for_every_shape_of_photo(tmp_path: Path) -> None:
    shapes = [(40, 400), (400, 40), (1, 1), (60, 60)]
    panels = [
        map_panel(explained(pixels=np.zeros((*shape, 3), np.uint8), box=(0, 0, *shape[::-1])))
        for shape in shapes
    ]
    sheet = draw_map_sheet([*panels, *panels], title="a title", lines=["a line"])
    write_map_sheet(tmp_path / "sheet.png", sheet)
    with Image.open(tmp_path / "sheet.png") as written:
        assert written.size == sheet.size
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    alone = draw_map(panels[1])
    assert alone.width > 1200  # four inches in print, with room for the text


def test_a_long_line_below_a_panel_is_divided_and_nothing_of_it_is_left_out() -> None:
    words = "the chosen region adds 0.1110: 0.1365 on the other map - 0.0255 of the constant"
    lines = wrapped(words, 500, 24)
    assert len(lines) > 1
    assert " ".join(lines) == words
    assert all(ImageFont.load_default(24).getlength(line) <= 500 for line in lines)
    pixels = np.full((60, 90, 3), 200, np.uint8)
    one, more = (
        draw_map_sheet([MapPanel("map", [line], pixels)] * 3).height for line in ("short", words)
    )
    assert more > one


@given(st.text(), st.integers(1, 300))
def test_any_line_is_divided_between_words(text: str, width: int) -> None:
    assert " ".join(wrapped(text, width, 12)).split() == printable(text).split()


def test_a_sheet_of_no_panel_or_of_too_many_is_refused() -> None:
    panel = MapPanel("x", (), GREY)
    for panels in ([], [panel] * (MAX_PANELS + 1)):
        with pytest.raises(ValueError, match="wanted 1 to"):
            draw_map_sheet(panels)


def test_numbers_of_a_scale() -> None:
    assert HeatScale(-0.01234, 0.01234).texts == ("-0.0123", "0", "+0.0123")
    assert HeatScale(0.0, 1234.0).texts == ("0", "617", "1.23e+03")
    assert HeatScale(0.0, 0.0).texts == ("0",)
