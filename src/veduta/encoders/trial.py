"""Try a model that a stranger made on one photo, before it is used for many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.errors import EncoderError, readable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.encoders.runtime import Model
    from veduta.encoders.spec import EncoderSpec

__all__ = ["tried_encoder"]

TRIAL_SECONDS = 120.0
"""A large model takes some seconds for a photo. One that takes longer loops, or is of no use."""

_STOP_SECONDS = 5.0


def tried_encoder(spec: EncoderSpec, model: Model, photo: NDArray[np.uint8]) -> OnnxEncoder:
    """Return an encoder that has described a photo.

    Ctrl-C works during the trial, though not inside a run of ONNX Runtime. So the trial has a
    thread of its own.

    Args:
        spec: the description of the encoder.
        model: the opened model.
        photo: (H, W, 3) uint8 RGB.

    Raises:
        EncoderError: the model fails, gives numbers that are infinite or undefined, or does not
            end. The message names its file.
    """
    made: list[OnnxEncoder] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            encoder = OnnxEncoder(spec, model)
            encoder.encode([encoder.prepare(photo)])
            made.append(encoder)
        except Exception as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)

    # A daemon, so that the process can end while the thread runs.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(TRIAL_SECONDS)
        if thread.is_alive():
            raise EncoderError(
                f"{readable(spec.model)}: the model has not described a photo after "
                f"{TRIAL_SECONDS:.0f} s; it may never end"
            )
    finally:
        if thread.is_alive():
            model.stop()
            thread.join(_STOP_SECONDS)
    if made:
        return made[0]
    error = failed[0]
    file = readable(spec.model)
    if isinstance(error, MemoryError):
        raise EncoderError(f"{file}: there is not enough memory for the model") from error
    if isinstance(error, EncoderError) and file not in str(error):
        raise EncoderError(f"{file}: {error}") from error
    raise error
