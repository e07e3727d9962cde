"""Matplotlib's SVG as an element of a page: what stays, what goes, and what changes."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from veduta.pages.svg import page_element

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"

DRAWING = """<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt" viewBox="0 0 72 36"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata><creator>Matplotlib, https://matplotlib.org/</creator></metadata>
 <defs><style type="text/css">*{stroke-linejoin: round}</style></defs>
 <g id="figure_1">
  <defs><path id="m1" d="M 0 0 L 1.23456 -0.98765" style="stroke: #123456"/></defs>
  <g clip-path="url(#p1)"><use xlink:href="#m1" x="1.005" style="stroke: #123456"/></g>
  <text style="font-size: 9px; font-family: 'A B', sans-serif; fill: #123456; opacity: 0.5" x="2"
   transform="rotate(-0 2 3)">a &lt;b&gt; #123456</text>
  <text transform="rotate(-90 2 3)" fill="#123456" stroke="#ff0000">b</text>
  <image xlink:href="data:image/png;base64,
AAAA" style="image-rendering:crisp-edges;image-rendering:pixelated" id="image1"/>
 </g>
 <defs><clipPath id="p1"><rect x="0.1234567" y="1" width="2.5" height="3"/></clipPath></defs>
</svg>
"""


@pytest.fixture(scope="module")
def element() -> ElementTree.Element:
    text = page_element(DRAWING, title="A & <b>", ink="#123456")
    assert text.startswith("<svg ") and text.endswith("</svg>")
    return ElementTree.fromstring(text)


def test_the_element_has_a_name_and_a_size(element: ElementTree.Element) -> None:
    assert element.get("role") == "img"
    assert element.get("aria-label") == element.findtext(f"{SVG}title") == "A & <b>"
    assert element[0].tag == f"{SVG}title"
    assert (element.get("width"), element.get("height")) == ("96", "48"), "CSS pixels"
    assert element.get("viewBox") == "0 0 72 36"


def test_nothing_of_it_changes_the_page(element: ElementTree.Element) -> None:
    tags = {part.tag for part in element.iter()}
    assert f"{SVG}metadata" not in tags and f"{SVG}style" not in tags
    ids = {part.get("id") for part in element.iter()} - {None}
    assert ids == {"m1", "p1"}, "only ids that the drawing uses"


def test_ink_takes_the_colour_of_the_page(element: ElementTree.Element) -> None:
    first, second = element.iter(f"{SVG}text")
    assert first.text == "a <b> #123456", "the text itself is not changed"
    assert first.get("style") == "font-size: 9px; fill: currentColor; opacity: 0.5"
    assert (second.get("fill"), second.get("stroke")) == ("currentColor", "#ff0000")
    assert element.find(f".//{SVG}use").get("style") == "stroke: currentColor"


def test_coordinates_are_short_and_turns_by_nothing_are_gone(
    element: ElementTree.Element,
) -> None:
    assert element.find(f".//{SVG}path").get("d") == "M 0 0 L 1.23 -0.99"
    assert element.find(f".//{SVG}rect").get("x") == "0.12"
    first, second = element.iter(f"{SVG}text")
    assert first.get("transform") is None
    assert second.get("transform") == "rotate(-90 2 3)"


def test_images_stay_sharp(element: ElementTree.Element) -> None:
    image = element.find(f".//{SVG}image")
    assert image.get(XLINK) == "data:image/png;base64,AAAA"
    assert image.get("style") == "image-rendering: crisp-edges; image-rendering: pixelated"
