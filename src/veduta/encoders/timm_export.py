"""Models of the timm library, exported to ONNX on first use: `timm:name`."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any

from veduta.encoders.hub import TIMEOUT_SECONDS, not_fetched
from veduta.encoders.presets import DEFAULT
from veduta.encoders.settings import Source, settings_beside
from veduta.errors import EncoderError, EncoderUnavailable, UnknownEncoder
from veduta.files import atomic_files, write_text

__all__ = ["export_timm", "exported_path", "timm_source"]

# The files of a repository in which timm looks for weights.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def timm_source(name: str, *, fetch: bool) -> Source:
    """Return an exported model from the user's cache folder. It is exported first if needed.

    Args:
        name: `timm:name`.
        fetch: fetch and export it if it is not in the cache folder.

    Raises:
        UnknownEncoder: timm has no such model.
        EncoderUnavailable: the model is not exported yet, and must not be fetched, or timm or torch
            is not installed or the weights cannot be fetched.
        EncoderError: the model cannot be exported.
    """
    model = name.removeprefix("timm:")
    path = exported_path(model)
    if not path.is_file():
        if not fetch:
            raise not_fetched(name)
        export_timm(model, path)
    return Source(name, path, settings_beside(path))


def exported_path(model: str) -> Path:
    """Return the path of the export of a timm model in the user's cache folder."""
    import platformdirs

    safe = re.sub(r"[^\w.-]+", "_", model)
    return Path(platformdirs.user_cache_dir("veduta", appauthor=False)) / "timm" / f"{safe}.onnx"


def export_timm(model: str, path: Path, *, pretrained: bool = True) -> None:
    """Export a timm model to ONNX, with its settings beside it as `.json`.

    The output of a convolutional network is its last feature map. It is pooled by GeM outside the
    graph, and the network takes photos of any shape. The output of any other network is its own
    pooled vector, at its own size.

    Args:
        model: its name in timm.
        path: the `.onnx` file to write.
        pretrained: use the trained weights.

    Raises:
        UnknownEncoder: timm has no such model.
        EncoderUnavailable: timm or torch is not installed, or the weights cannot be fetched.
        EncoderError: the model cannot be exported.
    """
    try:
        import timm
        import torch
    except ImportError as error:
        raise _unavailable(
            model, f"timm and torch do not load ({error}; pip install 'veduta[timm]')"
        ) from error
    architecture = model.partition(".")[0]
    if not model.startswith(("hf-hub:", "hf_hub:")) and not timm.is_model(architecture):
        similar = timm.list_models(f"*{architecture[:8]}*")[:5]
        advice = f"; similar are {', '.join(similar)}" if similar else ""
        raise UnknownEncoder(f"timm:{model}: timm has no such model{advice}")
    try:
        if pretrained:
            _ask_hub(model)
        network = timm.create_model(model, pretrained=pretrained, num_classes=0).eval()
    # The download of the weights may raise anything.
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise _unavailable(
            model, f"its weights cannot be fetched ({type(error).__name__}: {detail})"
        ) from error
    config = timm.data.resolve_model_data_config(network)
    side = int(config["input_size"][-1])
    settings: dict[str, object] = {"mean": list(config["mean"]), "std": list(config["std"])}
    sample = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        features = network.forward_features(sample)
    if _is_feature_map(features, network):
        network.forward = network.forward_features
        axes = {"photos": {0: "N", 2: "H", 3: "W"}, "output": {0: "N", 2: "h", 3: "w"}}
        # 176 pixels give 6 columns because of padding. The stride is the power of two between them.
        stride = 2 ** round(math.log2(side / int(features.shape[-1])))
        settings |= {"pooling": "gem", "fit": "aspect", "stride": stride}
        # It runs at twice the pixels that it was trained for, because places differ in details.
        settings["sizes"] = [round(side * 2**0.5 / stride) * stride]
    else:
        axes = {"photos": {0: "N"}, "output": {0: "N"}}
        settings |= {"pooling": "graph", "fit": "squash", "sizes": [side]}
    settings["output"] = "output"
    # The model comes last: an .onnx file without its settings would be taken for complete.
    with atomic_files(path.parent, last=path.name) as draft:
        _export(network, sample, axes, draft / path.name, model)
        write_text(draft / path.with_suffix(".json").name, json.dumps(settings))


def _ask_hub(model: str) -> None:
    """Ask the hub for a model whose weights are not on this machine, and raise what goes wrong.

    This request fails at once. The download would try again for a minute and a half.
    """
    import timm
    from huggingface_hub import HfApi, try_to_load_from_cache

    if model.startswith(("hf-hub:", "hf_hub:")):
        repository = model.partition(":")[2].partition("@")[0]
    else:
        repository = getattr(timm.get_pretrained_cfg(model), "hf_hub_id", None) or ""
    cached = (try_to_load_from_cache(repository, file) for file in WEIGHT_FILES if repository)
    if repository and not any(isinstance(path, str) for path in cached):
        HfApi().model_info(repository, timeout=TIMEOUT_SECONDS)


def _export(
    network: Any, sample: Any, axes: dict[str, dict[int, str]], file: Path, model: str
) -> None:
    import torch

    try:
        with warnings.catch_warnings():
            # The trace warns about shapes that are constants in it. `axes` names those that vary.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                network,
                (sample,),
                os.fspath(file),
                input_names=["photos"],
                output_names=["output"],
                dynamic_axes=axes,
                opset_version=17,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        detail = " ".join(str(error).split())[:200]
        raise EncoderError(f"timm:{model}: cannot be exported to ONNX ({detail})") from error


def _is_feature_map(features: Any, network: Any) -> bool:
    """Return whether `features` is (N, C, h, w). Some networks put the channels last."""
    return features.ndim == 4 and int(features.shape[1]) == int(network.num_features)


def _unavailable(model: str, reason: str) -> EncoderUnavailable:
    return EncoderUnavailable(
        f"timm:{model}: not exported on this machine yet, and {reason}. Use {DEFAULT!r}, which is "
        "inside the package; or export the model elsewhere, put the .onnx file here and give its "
        "path as the encoder"
    )
