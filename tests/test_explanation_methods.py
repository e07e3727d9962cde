"""The list of methods: what each explains and needs, and how it is found by its name."""

from __future__ import annotations

import pytest

from veduta.errors import LearnError, QueryError
from veduta.explanation import methods
from veduta.explanation.methods import METHODS, find_method, method_for, methods_for


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("cam", "cam"),
        ("CAM", "cam"),
        ("Grad-CAM++", "grad-cam++"),
        ("grad cam", "grad-cam"),
        ("gradcam", "grad-cam"),
        ("relu", "rectified"),
        ("Saliency", "gradient"),
        ("activation_relu", "activation-rectified"),
    ],
)
def test_a_name_is_found_however_it_is_spelled(name: str, method: str) -> None:
    assert find_method(name) is METHODS[method]


def test_an_unknown_method_has_the_nearest_name_and_all_others() -> None:
    with pytest.raises(QueryError, match=r"'oclusion'; did you mean occlusion\? Methods: shares"):
        find_method("oclusion")
    with pytest.raises(QueryError, match=r"'\?'; Methods: "):
        find_method("?")


def test_a_method_for_another_subject_names_those_for_this_one() -> None:
    with pytest.raises(QueryError, match="smoothgrad does not explain the similarity") as refused:
        method_for("smoothgrad", "similarity")
    assert str(refused.value).endswith("shares, grad-cam, occlusion, rise.")
    assert method_for("smoothgrad", "class").name == "smoothgrad"


def test_the_methods_without_torch() -> None:
    assert methods_for("similarity", with_torch=False) == ["shares", "occlusion", "rise"]
    assert methods_for("class", with_torch=False) == ["shares", "occlusion", "rise"]
    assert set(methods_for("class")) == set(METHODS)


@pytest.mark.parametrize("package", ["torch", "captum"])
def test_a_missing_package_is_named_with_what_works(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(LearnError) as refused:
        methods.require_packages("cam")
    assert str(refused.value) == (
        f"the method cam needs {package}; install with: pip install 'veduta[train]'. Methods that "
        "work for a run without: occlusion, rise."
    )
