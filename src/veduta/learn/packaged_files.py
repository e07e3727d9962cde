"""The TOML files of the package that a user names without a path: recipes and tables."""

from __future__ import annotations

from pathlib import Path

__all__ = ["toml_file", "toml_names"]


def toml_names(folder: Path) -> list[str]:
    """Return the sorted names of the TOML files in a folder of the package, without `.toml`."""
    return sorted(file.stem for file in folder.glob("*.toml"))


def toml_file(folder: Path, name: str) -> Path | None:
    """Return the file of a name, or None if there is none.

    Args:
        folder: of the package.
        name: the name of a TOML file in `folder`, or the path of a .toml file.
    """
    in_package = folder / f"{name}.toml"
    if "/" not in name and in_package.is_file():
        return in_package
    path = Path(name)
    return path if path.suffix == ".toml" and path.is_file() else None
