"""Models of the timm library, exported to ONNX on first use: `timm:name`."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

from veduta.encoders.presets import DEFAULT
from veduta.encoders.settings import Source, settings_beside
from veduta.errors import EncoderError, EncoderUnavailable, UnknownEncoder

__all__ = ["export_timm", "exported_path", "timm_source"]


def timm_source(name: str) -> Source:
    """Return the exported model `timm:name` from the user's cache folder; export it if missing.

    Raises:
        UnknownEncoder: timm has no such model.
        EncoderUnavailable: not exported yet, and timm or torch is not installed or the
            weights are not to be had.
        EncoderError: the model cannot be exported.
    """
    model = name.removeprefix("timm:")
    path = exported_path(model)
    if not path.is_file():
        export_timm(model, path)
    return Source(name, path, settings_beside(path))


def exported_path(model: str) -> Path:
    """Return where the export of the timm model `model` is kept."""
    import platformdirs

    safe = re.sub(r"[^\w.-]+", "_", model)
    return Path(platformdirs.user_cache_dir("veduta", appauthor=False)) / "timm" / f"{safe}.onnx"


def export_timm(model: str, path: Path, *, pretrained: bool = True) -> None:
    """Export a timm model to `path`, with its settings beside it as `.json`.

    A convolutional network gives its last feature map, which is pooled by GeM outside the graph
    and takes photos of any shape; any other network gives its own pooled vector, at its own size.

    Raises: as `timm_source`.
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
        near = timm.list_models(f"*{architecture[:8]}*")[:5]
        advice = f"; near are {', '.join(near)}" if near else ""
        raise UnknownEncoder(f"timm:{model}: timm has no such model{advice}")
    try:
        network = timm.create_model(model, pretrained=pretrained, num_classes=0).eval()
    # timm lets through whatever the download of the weights raises.
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise _unavailable(
            model, f"its weights are not to be had ({type(error).__name__}: {detail})"
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
        # 176 pixels give 6 columns: padding hides the power of two between them.
        stride = 2 ** round(math.log2(side / int(features.shape[-1])))
        settings |= {"pooling": "gem", "fit": "aspect", "stride": stride}
        # Twice the pixels that it was made for: places live by their detail.
        settings["sizes"] = [round(side * 2**0.5 / stride) * stride]
    else:
        axes = {"photos": {0: "N"}, "output": {0: "N"}}
        settings |= {"pooling": "graph", "fit": "squash", "sizes": [side]}
    settings["output"] = "output"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / "model.onnx"
        try:
            with warnings.catch_warnings():
                # Of shapes that were constant in the trace: those that vary are named in `axes`.
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.onnx.export(
                    network,
                    (sample,),
                    os.fspath(draft),
                    input_names=["photos"],
                    output_names=["output"],
                    dynamic_axes=axes,
                    opset_version=17,
                    dynamo=False,
                )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            detail = " ".join(str(error).split())[:200]
            raise EncoderError(f"timm:{model}: cannot be exported to ONNX ({detail})") from error
        # The settings go first: an .onnx file without them would be taken for complete.
        written = Path(folder) / "model.json"
        written.write_text(json.dumps(settings), encoding="utf-8")
        written.replace(path.with_suffix(".json"))
        draft.replace(path)


def _is_feature_map(features: Any, network: Any) -> bool:
    """Say whether `features` is (N, C, h, w): some networks put the channels last."""
    return features.ndim == 4 and int(features.shape[1]) == int(network.num_features)


def _unavailable(model: str, reason: str) -> EncoderUnavailable:
    return EncoderUnavailable(
        f"timm:{model}: not exported on this machine yet, and {reason}. Use {DEFAULT!r}, which is "
        "inside the package; or export the model elsewhere, put the .onnx file here and give its "
        "path as the encoder"
    )
