"""The methods that make a map: what they explain, what they need, and how users call them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from veduta.errors import LearnError, QueryError

__all__ = [
    "CHANGED_PHOTOS",
    "METHODS",
    "Method",
    "find_method",
    "method_for",
    "methods_for",
    "require_packages",
]

Subject = Literal["similarity", "class"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        name: what the user asks for.
        subjects: what it explains: "similarity" of two photos, "class" of one.
        needs_torch: it needs the gradients or the layers of a trained network.
        sums: its map and a constant add up to the similarity or to the score.
        summary: what it computes, in one line.
        source: paper, report or package.
    """

    name: str
    subjects: tuple[Subject, ...]
    needs_torch: bool
    sums: bool
    summary: str
    source: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "shares",
            ("similarity", "class"),
            False,
            True,
            "the share of each position in a pooled descriptor, exact",
            "Euler's theorem for homogeneous functions",
        ),
        Method(
            "cam",
            ("class",),
            True,
            True,
            "class activation map, exact: pooling and one linear layer end the network",
            "Zhou et al., CVPR 2016",
        ),
        Method(
            "grad-cam",
            ("similarity", "class"),
            True,
            False,
            "channels weighted by their mean gradient",
            "Selvaraju et al., ICCV 2017",
        ),
        Method(
            "grad-cam++",
            ("class",),
            True,
            False,
            "channels weighted by their positive gradients",
            "Chattopadhay et al., WACV 2018",
        ),
        Method(
            "layer-cam",
            ("class",),
            True,
            False,
            "each position weighted by its positive gradient",
            "Jiang et al., TIP 2021",
        ),
        Method(
            "eigen-cam",
            ("class",),
            True,
            False,
            "first principal component of the last feature map, the same for all classes",
            "Muhammad and Yeasin, IJCNN 2020",
        ),
        Method(
            "score-cam",
            ("class",),
            True,
            False,
            "channels weighted by the score of the photo seen through them",
            "Wang et al., CVPR workshops 2020",
        ),
        Method(
            "guided-grad-cam",
            ("class",),
            True,
            False,
            "Grad-CAM times the guided gradient",
            "Selvaraju et al., ICCV 2017",
        ),
        Method(
            "pooled-gradients",
            ("class",),
            True,
            False,
            "mean over channels weighted by their mean gradient, as in the report on two monuments",
            "Chollet, Deep Learning with Python, 2017, 5.4.3",
        ),
        Method(
            "activation",
            ("class",),
            True,
            False,
            "activation map of the layer before the dense part",
            "keras-vis 0.4, visualize_cam",
        ),
        Method(
            "activation-guided",
            ("class",),
            True,
            False,
            "activation map with guided gradients",
            "keras-vis 0.4, visualize_cam",
        ),
        Method(
            "activation-rectified",
            ("class",),
            True,
            False,
            "activation map with rectified gradients",
            "keras-vis 0.4, visualize_cam",
        ),
        Method(
            "gradient",
            ("class",),
            True,
            False,
            "absolute gradient of each pixel, maximum over channels",
            "Simonyan, Vedaldi and Zisserman, 2013",
        ),
        Method(
            "guided",
            ("class",),
            True,
            False,
            "gradient that stops at negative gradients and at zero activations",
            "Springenberg et al., 2014",
        ),
        Method(
            "rectified",
            ("class",),
            True,
            False,
            "gradient that stops at negative gradients",
            "Zeiler and Fergus, ECCV 2014",
        ),
        Method(
            "smoothgrad",
            ("class",),
            True,
            False,
            "mean gradient of noisy copies of the photo",
            "Smilkov et al., 2017",
        ),
        Method(
            "integrated-gradients",
            ("class",),
            True,
            True,
            "gradients along the way from a blank photo",
            "Sundararajan, Taly and Yan, ICML 2017",
        ),
        Method(
            "occlusion",
            ("similarity", "class"),
            False,
            False,
            "what the score loses when a patch is covered",
            "Zeiler and Fergus, ECCV 2014",
        ),
        Method(
            "rise",
            ("similarity", "class"),
            False,
            False,
            "mean score of the photo behind random masks",
            "Petsiuk, Das and Saenko, BMVC 2018",
        ),
    )
}

ALIASES = {
    "relu": "rectified",
    "deconvnet": "rectified",
    "saliency": "gradient",
    "similarity": "shares",
    "activation-relu": "activation-rectified",
}
"""Other names in use, such as those of the library of the report on the capstone."""


CHANGED_PHOTOS = ("occlusion", "rise")
"""The methods that only ask about changed copies of a photo: they explain every encoder and model,
and need no torch."""

_TORCH_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "captum")


def find_method(name: str) -> Method:
    """Return a method by its name, whatever its letters' case and hyphens.

    Args:
        name: what the user asks for.

    Raises:
        QueryError: no method has that name; the message has the nearest one.
    """
    plain = {_plain(known): known for known in (*METHODS, *ALIASES)}
    known = plain.get(_plain(name))
    if known is not None:
        return METHODS[ALIASES.get(known, known)]
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    hint = f"did you mean {plain[near[0]]}? " if near else ""
    raise QueryError(f"There is no method {name!r}; {hint}Methods: {', '.join(METHODS)}.")


def methods_for(subject: Subject, *, with_torch: bool = True) -> list[str]:
    """Return the names of the methods that explain a similarity or a class.

    Args:
        subject: "similarity" or "class".
        with_torch: also those that need torch.
    """
    return [
        method.name
        for method in METHODS.values()
        if subject in method.subjects and (with_torch or not method.needs_torch)
    ]


def method_for(name: str, subject: Subject) -> Method:
    """Return the method of a name, which must explain that subject.

    Args:
        name: as for `find_method`.
        subject: what is to be explained.

    Raises:
        QueryError: no method has that name, or it explains something else.
    """
    method = find_method(name)
    if subject not in method.subjects:
        what = {"similarity": "the similarity of two photos", "class": "the score of a class"}
        raise QueryError(
            f"The method {method.name} does not explain {what[subject]}. Methods that do: "
            f"{', '.join(methods_for(subject))}."
        )
    return method


def require_packages(method: str | None) -> None:
    """Check that the packages by which runs are explained are installed, without importing them.

    Args:
        method: its name, none of `CHANGED_PHOTOS`, which need none of them; None: the default.

    Raises:
        LearnError: a package is missing. The message names the methods that work without.
    """
    missing = [name for name in _TORCH_PACKAGES if find_spec(name) is None]
    if missing:
        what = f"the method {method}" if method else "the default method for a run"
        raise LearnError(
            f"{what} needs {', '.join(missing)}; install with: pip install 'veduta[train]'. "
            f"Methods that work for a run without: {', '.join(CHANGED_PHOTOS)}."
        )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")
