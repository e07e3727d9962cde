"""A linear projection of descriptors, and PCA-whitening: a projection fitted on the collection.

After Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA
and whitening", ECCV 2012: subtract the mean, rotate to the principal axes, divide each axis by a
power of its standard deviation, scale to length one again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from veduta.encoders.pooling import unit
from veduta.errors import EncoderError, readable
from veduta.files import atomic_file
from veduta.npz_file import read_all_arrays

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Projection", "fit_projection"]

# An axis with a smaller share of the largest variance is noise, which whitening would amplify.
MIN_VARIANCE_SHARE = 1e-6


@dataclass(frozen=True, eq=False)
class Projection:
    """A fitted projection: `unit((x - mean) @ matrix)`.

    Attributes:
        mean: (D,) float32.
        matrix: (D, d) float32, d <= D; of a PCA, a column is a principal axis, already divided by
            its scale.
        power: of the whitening, 0 to 1.
        samples: number of descriptors that it was fitted on.
        encoder: identity of the encoder of these descriptors; empty if it is not known.

    Raises:
        EncoderError: the shapes do not fit, or a number is not finite.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    power: float
    samples: int
    encoder: str = ""

    def __post_init__(self) -> None:
        shapes = self.mean.ndim == 1 and self.matrix.ndim == 2
        if not shapes or self.matrix.shape[0] != len(self.mean) or not self.matrix.size:
            raise EncoderError(
                "a projection wants a mean (D,) and a matrix (D, d), "
                f"not {self.mean.shape} and {self.matrix.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise EncoderError("a projection must be of finite numbers")

    @cached_property
    def identity(self) -> str:
        """16 hex digits: BLAKE3 over mean and matrix, on which `apply` depends."""
        from blake3 import blake3

        digest = blake3(f"projection 1 {self.matrix.shape}".encode())
        for part in (self.mean, self.matrix):
            digest.update(np.ascontiguousarray(part, dtype="<f4").tobytes())
        return digest.hexdigest()[:16]

    def apply(self, descriptors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Project descriptors.

        Args:
            descriptors: (N, D).

        Returns:
            (N, d) float32, rows of length one.

        Raises:
            EncoderError: the descriptors are of another dimension, or not finite.
        """
        if descriptors.ndim != 2 or descriptors.shape[1] != len(self.mean):
            raise EncoderError(
                f"this projection is for descriptors (N, {len(self.mean)}), "
                f"not {descriptors.shape}; fit it again for this encoder"
            )
        return unit((np.asarray(descriptors, dtype=np.float32) - self.mean) @ self.matrix)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the projection as .npz.

        Args:
            path: the file. No extension is added to its name.

        Raises:
            OSError: the file cannot be written.
        """
        # numpy would append .npz to a path, so it gets an open file.
        with atomic_file(path, durable=True) as draft, draft.open("wb") as stream:
            np.savez(
                stream,
                mean=self.mean,
                matrix=self.matrix,
                power=np.float64(self.power),
                samples=np.int64(self.samples),
                encoder=np.array(self.encoder),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projection:
        """Read a projection that `save` wrote.

        Args:
            path: the file.

        Raises:
            EncoderError: the file is missing, damaged, or something else.
        """
        try:
            parts = read_all_arrays(path)
            return cls(
                np.ascontiguousarray(parts["mean"], dtype=np.float32),
                np.ascontiguousarray(parts["matrix"], dtype=np.float32),
                float(parts["power"]),
                int(parts["samples"]),
                str(parts["encoder"]) if "encoder" in parts else "",
            )
        except FileNotFoundError as error:
            raise EncoderError(f"{readable(path)}: there is no such file") from error
        except KeyError as error:
            raise EncoderError(f"{readable(path)}: not a projection: it has no {error}") from error
        except (OSError, ValueError, TypeError, EncoderError) as error:
            raise EncoderError(f"{readable(path)}: not a projection that can be read") from error


def fit_projection(
    batches: Iterable[NDArray[np.floating]],
    *,
    dimension: int | None = None,
    power: float = 0.5,
    shrinkage: float | None = None,
) -> Projection:
    """Fit a PCA-whitening in one pass over a stream of descriptors, in memory D × D.

    Args:
        batches: arrays (n, D), any n >= 0.
        dimension: d, 1 to D. None keeps all D.
        power: 0 only rotates, 0.5 divides by the square root of the standard deviation, 1 whitens:
            the covariance of the projected samples, before they are scaled to length one, is the
            identity.
        shrinkage: share, 0 to 1, of the covariance that is replaced by its mean variance on the
            diagonal (Ledoit and Wolf, 2004), for an estimate from few samples. None takes
            D / (D + N), which is 1/2 at N = D and falls as the samples grow.

    Raises:
        EncoderError: an argument is out of range, the batches disagree in dimension, they are not
            finite or all equal, or there are fewer than max(2, d) samples.
    """
    if not 0 <= power <= 1:
        raise EncoderError(f"the power of the whitening must be in 0 to 1, not {power}")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise EncoderError(f"the shrinkage must be in 0 to 1, not {shrinkage}")
    samples, mean, covariance = _moments(batches)
    size = len(mean)
    kept = size if dimension is None else dimension
    if not 1 <= kept <= size:
        raise EncoderError(f"the projection's dimension must be in 1 to {size}, not {kept}")
    if samples < max(2, kept):
        raise EncoderError(
            f"{samples} descriptors are too few for a projection to {kept} dimensions: it wants at "
            f"least as many descriptors as dimensions, better ten times as many"
        )
    variance = float(np.trace(covariance)) / size
    if not variance > 0:
        raise EncoderError("all descriptors are equal: there is nothing to fit a projection on")
    share = size / (size + samples) if shrinkage is None else shrinkage
    covariance *= 1 - share
    covariance[np.diag_indices(size)] += share * variance
    variances, axes = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:kept]
    variances, axes = variances[order], axes[:, order]
    # An axis and its opposite are equally good. A fixed sign makes the fit repeatable.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(kept)] < 0, -1.0, 1.0)
    scales = np.maximum(variances, MIN_VARIANCE_SHARE * variances[0]) ** (-power / 2)
    return Projection(
        mean.astype(np.float32),
        np.ascontiguousarray(axes * scales, dtype=np.float32),
        float(power),
        samples,
    )


def _moments(
    batches: Iterable[NDArray[np.floating]],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Return count, mean (D,) and covariance (D, D) of a stream (Chan, Golub and LeVeque, 1979)."""
    count = 0
    mean = np.zeros(0)
    scatter = np.zeros((0, 0))
    for batch in batches:
        rows = np.asarray(batch, dtype=np.float64)
        if rows.ndim != 2 or (count and rows.shape[1] != len(mean)):
            wanted = f"(n, {len(mean)})" if count else "(n, D)"
            raise EncoderError(f"a batch of descriptors must be {wanted}, not {rows.shape}")
        if not len(rows):
            continue
        if not np.isfinite(rows).all():
            raise EncoderError("a projection cannot be fitted on infinite or undefined numbers")
        if not count:
            mean = np.zeros(rows.shape[1])
            scatter = np.zeros((rows.shape[1], rows.shape[1]))
        batch_mean = rows.mean(axis=0)
        centred = rows - batch_mean
        shift = batch_mean - mean
        total = count + len(rows)
        scatter += centred.T @ centred + np.outer(shift, shift) * (count * len(rows) / total)
        mean = mean + shift * (len(rows) / total)
        count = total
    if not count:
        raise EncoderError("no descriptors came: there is nothing to fit a projection on")
    return count, mean, scatter / max(1, count - 1)
