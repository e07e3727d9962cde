"""ONNX models from a model hub: `hub:owner/name[/file.onnx]`."""

from __future__ import annotations

import re
from pathlib import Path

from veduta.encoders.presets import DEFAULT
from veduta.encoders.settings import Source, settings_beside
from veduta.errors import EncoderUnavailable, UnknownEncoder
from veduta.text import veduta_command

__all__ = ["cached_model", "hub_source", "not_fetched", "split_hub_name"]

TIMEOUT_SECONDS = 10

# Where repositories keep the model, best first. The vision part of a model of texts and images
# comes before the whole model.
USUAL_FILES = (
    "onnx/vision_model.onnx",
    "onnx/model.onnx",
    "vision_model.onnx",
    "model.onnx",
)

_NAME = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.onnx))?")


def split_hub_name(name: str) -> tuple[str, str | None]:
    """Split the name of a hub model.

    Args:
        name: `hub:owner/name[/file.onnx]`.

    Returns:
        The repository, and the file or None.

    Raises:
        UnknownEncoder: the name has another form.
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        raise UnknownEncoder(
            f"{name!r} names no model on the hub; the form is hub:owner/name or "
            "hub:owner/name/folder/file.onnx"
        )
    return match["repository"], match["file"]


def hub_source(name: str, *, fetch: bool) -> Source:
    """Find a model in the hub's cache on this machine, or download it into that cache.

    Args:
        name: `hub:owner/name[/file.onnx]`.
        fetch: download it if it is not in the cache.

    Raises:
        UnknownEncoder: the name has another form.
        EncoderUnavailable: the model is not in the cache, and must not be fetched, or
            huggingface-hub is not installed, the hub is not reachable, or it has no such repository
            or file.
        EncoderError: the settings that came with the model do not read.
    """
    repository, file = split_hub_name(name)
    path = cached_model(repository, file)
    if path is None:
        if not fetch:
            raise not_fetched(name)
        path = _download(name, repository, file)
    return Source(name, path, settings_beside(path))


def not_fetched(name: str) -> EncoderUnavailable:
    """Return the error about a model that a file names and that is not on this machine.

    Args:
        name: of the model. A stranger may have written it.
    """
    return EncoderUnavailable(
        f"{name}: the model is not on this machine, and only a model that you name is fetched. "
        f"To fetch it: {veduta_command('models', '--fetch', name)}"
    )


def cached_model(repository: str, file: str | None) -> Path | None:
    """Return the path of a model in the hub's cache on this machine, None if it is not there.

    A model without its preprocessor_config.json counts as missing. With guessed colours its
    descriptors would differ from those of the complete model.

    Args:
        repository: "owner/name".
        file: path in the repository; None for the first of `USUAL_FILES`.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    if not isinstance(try_to_load_from_cache(repository, "preprocessor_config.json"), str):
        return None
    for candidate in (file,) if file else USUAL_FILES:
        path = try_to_load_from_cache(repository, candidate)
        if isinstance(path, str) and Path(path).is_file():
            return Path(path)
    return None


def _download(name: str, repository: str, file: str | None) -> Path:
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise _unavailable(
            name, repository, file, "huggingface-hub is not installed (pip install 'veduta[hub]')"
        ) from error
    try:
        if file is None:
            # `list_repo_files` would try for twenty seconds if there is no network.
            entries = HfApi().model_info(repository, timeout=TIMEOUT_SECONDS).siblings or []
            file = _choose(name, repository, [entry.rfilename for entry in entries])
        wanted = [file, f"{file}_data", f"{file}.data", "preprocessor_config.json"]
        folder = snapshot_download(repository, allow_patterns=wanted)
    except EncoderUnavailable:
        raise
    # The client raises anything that its HTTP library raises, and that library has changed.
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        reason = f"the hub does not give it ({type(error).__name__}: {detail})"
        raise _unavailable(name, repository, file, reason) from error
    path = Path(folder) / file
    if not path.is_file():
        raise _unavailable(name, repository, file, f"the repository has no file {file}")
    return path


def _choose(name: str, repository: str, files: list[str]) -> str:
    for candidate in USUAL_FILES:
        if candidate in files:
            return candidate
    reason = f"the repository has none of {', '.join(USUAL_FILES)}"
    onnx = sorted(file for file in files if file.endswith(".onnx"))
    if onnx:
        reason += f"; it has {', '.join(onnx[:8])}: add one to the name"
    raise _unavailable(name, repository, None, reason)


def _unavailable(name: str, repository: str, file: str | None, reason: str) -> EncoderUnavailable:
    wanted = file or "the .onnx file"
    return EncoderUnavailable(
        f"{name}: not on this machine, and {reason}. Use {DEFAULT!r}, which is inside the package; "
        f"or fetch {wanted} and preprocessor_config.json of {repository} elsewhere, put them in "
        "one folder here and give the path of the .onnx file as the encoder"
    )
