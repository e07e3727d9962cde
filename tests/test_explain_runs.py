"""`veduta.explain` of runs: what works with torch, what without, and what is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import ask_model, files_of

import veduta
from veduta.errors import LearnError, QueryError, VedutaError
from veduta.explanation import methods

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RunAndCard = tuple[Path, object]


@pytest.fixture(scope="module")
def photo(run_home: Path) -> Path:
    return files_of(run_home / "photos", "test")[0][0]


def test_every_method_explains_the_same_score(class_run: RunAndCard, photo: Path) -> None:
    run = class_run[0]
    (logits, *_) = (out for out in ask_model(run, [photo]) if out.shape == (1, 5))
    best = int(logits[0].argmax())
    for method in (None, "gradient", "occlusion"):
        found = veduta.explain(photo, model=run, method=method)
        assert found.score == pytest.approx(float(logits[0, best]), abs=1e-3), method
        assert np.isfinite(found.map).all()
        other = veduta.explain(photo, model=run, method=method, class_name=found.class_name)
        assert np.array_equal(other.map, found.map)


def test_embeddings_are_compared(class_run: RunAndCard, run_home: Path, photo: Path) -> None:
    run = class_run[0]
    files = files_of(run_home / "photos", "test")[0]
    (embeddings, *_) = (out for out in ask_model(run, [photo, files[-1]]) if out.shape[1] != 5)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = veduta.explain(photo, against=files[-1], model=run)
    assert found.similarity == pytest.approx(float(unit[0] @ unit[1]), abs=1e-4)
    assert found.against is not None and found.against.photo == str(files[-1])


def test_an_autoencoder_has_no_classes(autoencoder_run: RunAndCard, photo: Path) -> None:
    run = autoencoder_run[0]
    with pytest.raises(VedutaError, match="class"):
        veduta.explain(photo, model=run)
    assert veduta.explain(photo, against=photo, model=run).similarity == pytest.approx(1, abs=1e-4)


def test_without_torch_changed_copies_still_explain(
    class_run: RunAndCard, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda _: None)
    with pytest.raises(LearnError, match=r"veduta\[train\].*without: occlusion, rise"):
        veduta.explain(photo, model=class_run[0], method="cam")
    with pytest.raises(LearnError, match="the default method for a run needs torch"):
        veduta.explain(photo, model=class_run[0])
    assert veduta.explain(photo, model=class_run[0], method="occlusion").method == "occlusion"


def test_an_unknown_class_has_the_nearest_names(class_run: RunAndCard, photo: Path) -> None:
    for method in ("gradient", "occlusion"):
        with pytest.raises(QueryError, match=r"no class 'arch, the old'.* nearest: 'arch, the “"):
            veduta.explain(photo, model=class_run[0], class_name="arch, the old", method=method)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"damaged"),
        ("model.safetensors", None),
        ("recipe.toml", b"size = ["),
        ("recipe.toml", None),
        ("card.json", b"{}"),
        ("card.json", None),
    ],
)
def test_a_damaged_run_is_named(
    copied_run: Path, photo: Path, file: str, content: bytes | None
) -> None:
    if content is None:
        (copied_run / file).unlink()
    else:
        (copied_run / file).write_bytes(content)
    with pytest.raises(LearnError) as refused:
        veduta.explain(photo, model=copied_run, method="gradient")
    assert str(copied_run) in str(refused.value)


def test_a_damaged_model_file_is_named(copied_run: Path, photo: Path) -> None:
    (copied_run / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(VedutaError, match=r"model\.onnx"):
        veduta.explain(photo, model=copied_run, method="occlusion")
