"""Matplotlib's SVG file as one element of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

__all__ = ["page_element"]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
_POINTS_PER_PIXEL = 0.75  # matplotlib draws in points, a page lays out in CSS pixels

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_GEOMETRY = ("d", "height", "transform", "width", "x", "y")

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def page_element(drawing: str, *, title: str, ink: str) -> str:
    """Return an `<svg>` element that depends on nothing else and changes nothing else.

    It has no style sheet, metadata or unused ids. Its text has the fonts of the page.

    Args:
        drawing: an SVG file of matplotlib.
        title: its name for readers who cannot see it.
        ink: the colour, such as "#1c1b19", that becomes the text colour of the page.
    """
    root = ElementTree.fromstring(drawing)  # noqa: S314 - this program drew it
    width, height = root.attrib["viewBox"].split()[2:]
    for child in list(root):
        # The style sheet of matplotlib would apply to every element of the page.
        if child.tag == _tag("metadata") or child.find(_tag("style")) is not None:
            root.remove(child)
    used_ids = _referenced_ids(root)
    for element in root.iter():
        _clean(element, used_ids, ink)
    root.attrib.clear()
    root.attrib |= {
        "role": "img",
        "aria-label": title,
        "width": f"{float(width) / _POINTS_PER_PIXEL:.0f}",
        "height": f"{float(height) / _POINTS_PER_PIXEL:.0f}",
        "viewBox": f"0 0 {float(width):g} {float(height):g}",
        "style": f"max-width: 100%; height: auto; font-family: {_FONTS}; "
        "stroke-linejoin: round; stroke-linecap: butt",
    }
    name = ElementTree.Element(_tag("title"))
    name.text = title
    root.insert(0, name)
    return ElementTree.tostring(root, encoding="unicode").strip()


def _tag(name: str) -> str:
    return f"{{{_SVG}}}{name}"


def _referenced_ids(root: ElementTree.Element) -> set[str]:
    """Return the ids that another element of the drawing points to."""
    ids = set()
    for element in root.iter():
        for value in element.attrib.values():
            ids.update(_REFERENCE.findall(value))
        link = element.get(f"{{{_XLINK}}}href", "")
        if link.startswith("#"):
            ids.add(link[1:])
    return ids


def _clean(element: ElementTree.Element, used_ids: set[str], ink: str) -> None:
    """Remove what the page does not need, and take the colour of text from the page."""
    if element.get("id") not in used_ids:
        element.attrib.pop("id", None)
    if element.get("transform", "").startswith(("rotate(0 ", "rotate(-0 ")):
        del element.attrib["transform"]
    if style := element.get("style"):
        rules = (rule.partition(":")[::2] for rule in style.split(";") if rule.strip())
        element.set(
            "style",
            "; ".join(
                f"{name.strip()}: {_page_colour(value.strip(), ink)}"
                for name, value in rules
                if name.strip() != "font-family"
            ),
        )
    for name in ("fill", "stroke"):
        if name in element.attrib:
            element.set(name, _page_colour(element.attrib[name], ink))
    for name in _GEOMETRY:
        if name in element.attrib:
            element.set(name, _LONG_NUMBER.sub(_rounded, element.attrib[name]))
    if (link := element.get(f"{{{_XLINK}}}href", "")).startswith("data:"):
        element.set(f"{{{_XLINK}}}href", "".join(link.split()))


def _page_colour(value: str, ink: str) -> str:
    return "currentColor" if value == ink else value


def _rounded(number: re.Match[str]) -> str:
    """Return a coordinate to a hundredth of a point."""
    return f"{float(number[0]):.2f}"
