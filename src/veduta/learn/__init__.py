"""Train networks on labelled photos: recipes, augmentation, training, runs and tuning.

Training needs the extra `veduta[train]`. Reading a recipe does not.
"""

from importlib.util import find_spec

from veduta.errors import LearnError

__all__ = ["require_packages"]

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "pytorch_lightning",
    "pytorch_metric_learning",
    "safetensors",
    "optuna",
    "onnxscript",
    "tomli_w",
)


def require_packages() -> None:
    """Check that the packages for training are installed, without importing them.

    Raises:
        LearnError: a package is missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise LearnError(
            f"training needs {', '.join(missing)}; install with: pip install 'veduta[train]'"
        )
