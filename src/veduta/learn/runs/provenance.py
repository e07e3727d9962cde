"""Where the weights and figures of a run come from: package versions, hardware, licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["hardware", "package_versions", "weights_licence"]

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "onnx",
    "onnxscript",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "numpy",
    "safetensors",
)


def package_versions() -> dict[str, str]:
    """Return the versions of Veduta, Python and the packages that decide a run's figures."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from veduta._version import __version__

    versions = {"veduta": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # Not every run needs all of them.
            continue
    return versions


def hardware(device: str) -> dict[str, Any]:
    """Return the hardware of a run: "cpu", "cores", "system", and "gpu", empty without one.

    Args:
        device: "cpu", or the name of the GPU.
    """
    from veduta.evaluation.report_environment import environment

    machine = environment()
    return {
        "cpu": machine["cpu"],
        "cores": machine["cores"],
        "system": machine["system"],
        "gpu": "" if device == "cpu" else device,
    }


def weights_licence(network: Mapping[str, Any]) -> str:
    """Return what is known of the terms of a trained network's weights, in sentences.

    Args:
        network: this table of a recipe (`Recipe.as_json()["network"]`).
    """
    owners = "The training photos belong to their owners, whose terms apply as well."
    return f"{_first_weights(str(network['backbone']), str(network['weights']))} {owners}"


def _first_weights(backbone: str, weights: str) -> str:
    kind, _, name = backbone.partition(":")
    if weights not in {"pretrained", "none"}:
        start = f"Starts from the weights in {Path(weights).name}, whose terms are not known."
        return f"{start} {_first_weights(backbone, 'none')}" if kind == "encoder" else start
    if not backbone or (weights == "none" and kind != "encoder"):
        return "Weights trained from scratch, without other weights."
    if kind == "embedded":
        from veduta.encoders.embedded import embedded_models

        entry = embedded_models().get(name)
        licence = entry.licence if entry else "Apache-2.0"
        return f"Starts from the weights of {name} in this package: {licence}."
    if kind == "timm":
        import timm

        settings = timm.get_pretrained_cfg(name)
        licence = str(getattr(settings, "license", "") or "not stated")
        return f"Starts from timm's weights of {name}. Their licence, according to timm: {licence}."
    if kind == "torchvision":
        return (
            f"Starts from torchvision's weights of {name}, which are published with code under "
            "BSD-3-Clause and have no terms of their own."
        )
    from veduta.encoders import list_encoders

    licences = {entry["name"]: entry["licence"] for entry in list_encoders()}
    return f"Uses the encoder {name} unchanged: {licences.get(name, 'its terms are not known')}."
