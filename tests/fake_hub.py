"""A model hub of folders instead of a network."""

from __future__ import annotations

import json
import shutil
import types
from pathlib import Path

from tiny_onnx import SIGLIP_CONFIG, channel_means, mirror, write


class FakeHub(types.ModuleType):
    """The three calls of huggingface-hub that are used, over folders instead of a network."""

    def __init__(self, cache: Path, remote: Path | None) -> None:
        super().__init__("huggingface_hub")
        self.cache, self.remote, self.fetched = cache, remote, []

    def try_to_load_from_cache(self, repository: str, file: str) -> str | None:
        path = self.cache / repository / file
        return str(path) if path.is_file() else None

    def HfApi(self) -> FakeHub:
        return self

    def model_info(self, repository: str, timeout: float) -> types.SimpleNamespace:
        assert timeout <= 10
        return types.SimpleNamespace(
            siblings=[types.SimpleNamespace(rfilename=name) for name in self.files(repository)]
        )

    def files(self, repository: str) -> list[str]:
        if self.remote is None:
            raise ConnectionError("Name or service not known")
        root = self.remote / repository
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]

    def snapshot_download(self, repository: str, allow_patterns: list[str]) -> str:
        for name in set(self.files(repository)) & set(allow_patterns):
            target = self.cache / repository / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.remote / repository / name, target)
            self.fetched.append(name)
        return str(self.cache / repository)


def hub_with_a_model(folder: Path) -> FakeHub:
    """Return a hub that has the repository `owner/model`, and an empty cache."""
    models = folder / "remote" / "owner" / "model" / "onnx"
    models.mkdir(parents=True)
    write(models, mirror())
    (models / "vision_model.onnx").write_bytes(channel_means())
    (models / "text_model.onnx").write_bytes(b"big")
    config = json.dumps(SIGLIP_CONFIG)
    (models.parent / "preprocessor_config.json").write_text(config, encoding="utf-8")
    return FakeHub(folder / "cache", folder / "remote")
