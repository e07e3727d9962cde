"""Learning from one's own photos: recipes, networks, training, tuning, and what a run leaves.

The only room that needs torch (`pip install 'veduta[train]'`); reading a recipe does not.
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
)


def require_packages() -> None:
    """Raise `LearnError` when a package that training needs is missing; none is imported."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise LearnError(
            f"training needs {', '.join(missing)}, not installed here: pip install 'veduta[train]'"
        )
