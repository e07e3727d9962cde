"""The encoder that runs an ONNX model: resize, run at each size, pool, add, scale to length one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.encoders.placement import long_side, place
from veduta.encoders.pooling import pool, unit
from veduta.errors import EncoderError
from veduta.photos import resize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from veduta.encoders.runtime import Model
    from veduta.encoders.spec import EncoderSpec

__all__ = ["OnnxEncoder"]

# A larger batch is not faster on a processor, and each photo in it costs memory.
MAX_BATCH_PHOTOS = 8

MAX_FIXED_BATCH_PHOTOS = 256
"""The limit for a model that takes a fixed number of photos. All of them are computed each time."""

MAX_DIMENSION = 65_536
"""The limit for the length of a descriptor."""


class OnnxEncoder:
    """An `Encoder` that runs an ONNX model, with its preprocessing and pooling.

    `veduta.encoders.load_encoder` opens one.

    Attributes:
        name: what the user asks for, such as "accurate".
        identity: 16 hex digits over weights, preprocessing and pooling. It is the same on every
            runtime and machine. Descriptors of two identities must not be compared.
        dimension: length D of a descriptor.
        long_side: pixels. A photo that is decoded with at least this long side loses nothing.
        shared_photos: how many photos of several threads share a run of the network; 1: none do.
        spec: the full description.
        notice: what the user should know about the choice of the runtime or the device; None if
            nothing.
    """

    def __init__(self, spec: EncoderSpec, model: Model, *, notice: str | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.identity = spec.identity
        self.long_side = long_side(spec)
        self._model = model
        self.notice = notice
        port = model.inputs[0]
        self._input_type = np.dtype(port.kind)
        self.shared_photos = model.shared_photos
        self._batch = port.shape[0] or max(MAX_BATCH_PHOTOS, self.shared_photos)
        self._fixed_batch = port.shape[0] is not None
        if self._batch > MAX_FIXED_BATCH_PHOTOS:
            raise EncoderError(
                f"the model takes {self._batch:,} photos at once; the limit is "
                f"{MAX_FIXED_BATCH_PHOTOS}: export it with a free number of photos"
            )
        self.dimension = self._find_dimension()
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise EncoderError(
                f"the model gives descriptors of {self.dimension:,} numbers; the limit is "
                f"{MAX_DIMENSION:,}"
            )

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        """Resize a photo to what the network takes.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright.

        Returns:
            One array (h, w, 3) uint8 for each size at which the network runs.

        Raises:
            EncoderError: the array is no such photo.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise EncoderError(
                f"a photo must be an array (H, W, 3) of uint8, not {pixels.shape} of {pixels.dtype}"
            )
        height, width = pixels.shape[:2]
        prepared = []
        for side, _ in self.spec.sizes:
            placement = place(width, height, side, self.spec)
            part = pixels[placement.top : placement.bottom, placement.left : placement.right]
            prepared.append(resize(part, placement.width, placement.height))
        return tuple(prepared)

    def encode(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
        """Return the descriptors (N, D) float32 of N prepared photos, rows of length one.

        Photos of equal shape share a batch.

        Args:
            prepared: results of `prepare`.

        Raises:
            EncoderError: the network fails, or returns infinite or undefined numbers.
        """
        total = np.zeros((len(prepared), self.dimension), dtype=np.float32)
        for level, (_, weight) in enumerate(self.spec.sizes):
            for rows, batch in self._batches(prepared, level):
                pooled = self._pooled(batch)
                if pooled.shape[1] != self.dimension:
                    raise EncoderError(
                        f"the model gave {pooled.shape[1]:,} numbers a photo, and promised "
                        f"{self.dimension:,}"
                    )
                total[rows] += np.float32(weight) * unit(pooled)
        return unit(total)

    def class_scores(
        self, prepared: Sequence[tuple[NDArray[np.uint8], ...]], output: str
    ) -> NDArray[np.float32]:
        """Return another output of the graph for N prepared photos, (N, C) float32.

        If the encoder has several sizes, this is the mean over them, with the weights of the sizes.

        Args:
            prepared: results of `prepare`.
            output: name of an output of shape N × C.

        Raises:
            EncoderError: the graph has no such output, the network fails, or it returns infinite
                or undefined numbers.
        """
        ports = {port.name: port for port in self._model.outputs}
        port = ports.get(output)
        if port is None or len(port.shape) != 2 or port.shape[1] is None:
            available = ", ".join(str(port) for port in self._model.outputs)
            raise EncoderError(
                f"encoder {self.name!r} has no output {output!r} of shape N × C; it has {available}"
            )
        total = np.zeros((len(prepared), port.shape[1]), dtype=np.float32)
        total_weight = sum(weight for _, weight in self.spec.sizes)
        for level, (_, weight) in enumerate(self.spec.sizes):
            for rows, batch in self._batches(prepared, level):
                (scores,) = self._run(batch, output)
                total[rows] += np.float32(weight / total_weight) * scores
        if not np.isfinite(total).all():
            raise EncoderError(
                f"encoder {self.name!r}: {output!r} has infinite or undefined numbers: its weights "
                "are damaged"
            )
        return total

    def outputs_of(
        self, photo: NDArray[np.uint8], *outputs: str
    ) -> tuple[NDArray[np.float32], ...]:
        """Return outputs of the graph for one photo at one size, from one run of the network.

        Args:
            photo: (h, w, 3) uint8, one of the arrays that `prepare` returns.
            *outputs: names of the outputs.

        Returns:
            One array for each output, without the axis of the photos.

        Raises:
            EncoderError: the network fails on this photo.
        """
        return tuple(rows[0] for rows in self._run(photo[None], *outputs))

    def describe(self) -> dict[str, object]:
        """Return what a manifest or a report says of this encoder, as JSON types."""
        spec = self.spec
        return {
            "name": self.name,
            "identity": self.identity,
            "dimension": self.dimension,
            "model": spec.model.name,
            "sha256": spec.sha256,
            "sizes": [[side, weight] for side, weight in spec.sizes],
            "fit": spec.fit,
            "pooling": f"gem p={spec.gem_p:g}" if spec.pooling == "gem" else spec.pooling,
            "runtime": self._model.runtime,
            "precision": self._model.precision,
            "device": self._model.device,
            "notice": self.notice,
        }

    def _batches(
        self, prepared: Sequence[tuple[NDArray[np.uint8], ...]], level: int
    ) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Yield the rows of some photos, and their pixels (B, h, w, 3) at one of the sizes."""
        rows_of_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, arrays in enumerate(prepared):
            rows_of_shape[arrays[level].shape].append(row)
        for rows in rows_of_shape.values():
            for start in range(0, len(rows), self._batch):
                batch_rows = rows[start : start + self._batch]
                yield batch_rows, np.stack([prepared[row][level] for row in batch_rows])

    def _pooled(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, h, w, 3) uint8 → (B, D), not of length one. B is at most the model's batch."""
        (output,) = self._run(photos, self.spec.output)
        pooled = pool(output, self.spec.pooling, self.spec.gem_p)
        if len(pooled) != len(photos):
            raise EncoderError(f"the model gave {len(pooled)} results for {len(photos)} photos")
        return pooled

    def _run(self, photos: NDArray[np.uint8], *outputs: str) -> tuple[NDArray[np.float32], ...]:
        """(B, h, w, 3) uint8 → (B, …), outputs of the graph. B is at most the model's batch."""
        count = len(photos)
        if self._fixed_batch and count < self._batch:
            photos = np.concatenate([photos, photos[:1].repeat(self._batch - count, axis=0)])
        return tuple(rows[:count] for rows in self._model.run(self._as_input(photos), *outputs))

    def _as_input(self, photos: NDArray[np.uint8]) -> NDArray[Any]:
        spec = self.spec
        if spec.layout == "uint8-nhwc":
            return photos
        # `(v * scale - mean) / std` with folded constants: one product and one sum for each value.
        factor = np.float32(spec.scale) / np.asarray(spec.std, dtype=np.float32)
        offset = np.asarray(spec.mean, dtype=np.float32) / np.asarray(spec.std, dtype=np.float32)
        values = photos * factor - offset
        if spec.layout == "float-nchw":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=self._input_type)

    def _find_dimension(self) -> int:
        """Return D, from the graph if it says so, else from one run on a small blank photo."""
        port = next(port for port in self._model.outputs if port.name == self.spec.output)
        axis = 2 if self.spec.pooling in {"cls", "mean_tokens"} else 1
        size = port.shape[axis] if len(port.shape) > axis else None
        if size is not None:
            return size
        side = min(side for side, _ in self.spec.sizes)
        height = width = side if self.spec.fit != "aspect" else 2 * self.spec.stride
        blank = np.zeros((1, height, width, 3), dtype=np.uint8)
        return int(self._pooled(blank).shape[1])
