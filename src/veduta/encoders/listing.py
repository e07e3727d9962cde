"""The list of encoders, for `veduta models`."""

from __future__ import annotations

from pathlib import Path

from veduta.encoders.embedded import EmbeddedModel, embedded_models
from veduta.encoders.hub import cached_model, split_hub_name
from veduta.encoders.presets import PRESETS

__all__ = ["list_encoders"]

# Well-known models with ONNX files on the hub: name, bytes of the file, dimension, licence, source.
HUB_MODELS = (
    ("hub:Xenova/dinov2-small", 88_500_000, 384, "Apache-2.0", "DINOv2 ViT-S/14, Meta"),
    ("hub:Xenova/dinov2-base", 347_000_000, 768, "Apache-2.0", "DINOv2 ViT-B/14, Meta"),
    (
        "hub:onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX",
        86_500_000,
        384,
        "DINOv3 License",
        "DINOv3 ViT-S/16, Meta",
    ),
    (
        "hub:onnx-community/siglip2-base-patch16-224-ONNX",
        372_000_000,
        768,
        "Apache-2.0",
        "SigLIP 2 ViT-B/16, Google",
    ),
    ("hub:Xenova/clip-vit-base-patch32", 352_000_000, 512, "MIT", "CLIP ViT-B/32, OpenAI"),
)


def list_encoders() -> list[dict[str, object]]:
    """List presets, embedded models and well-known hub models.

    Any other hub model, timm model or `.onnx` file is an encoder, too.

    Returns:
        One dictionary for each, with "name", "size" (bytes of the model file; an estimate for a hub
        model that is not on this machine), "dimension", "licence", "source" and "available"
        (whether it is on this machine now).
    """
    models = embedded_models()
    entries = [
        _embedded(
            name,
            models[preset.model],
            f"{preset.model} at {' + '.join(str(side) for side, _ in preset.sizes)} pixels",
        )
        for name, preset in PRESETS.items()
        if preset.model in models
    ]
    entries += [_embedded(name, model, model.source) for name, model in models.items()]
    return entries + [_hub(*model) for model in HUB_MODELS]


def _embedded(name: str, model: EmbeddedModel, source: str) -> dict[str, object]:
    return {
        "name": name,
        "size": model.size,
        "dimension": model.dimension,
        "licence": model.licence,
        "source": source,
        "available": model.path.is_file(),
    }


def _hub(name: str, size: int, dimension: int, licence: str, source: str) -> dict[str, object]:
    path = cached_model(*split_hub_name(name))
    return {
        "name": name,
        "size": size if path is None else _file_bytes(path),
        "dimension": dimension,
        "licence": licence,
        "source": source,
        "available": path is not None,
    }


def _file_bytes(model: Path) -> int:
    weights = model.with_name(f"{model.name}_data")
    return model.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
