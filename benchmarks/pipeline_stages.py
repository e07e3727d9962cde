"""What each step of the pipeline needs for n photos, from the unit costs: seconds, bytes, memory.

The formulas follow the code. A step grows with the number of photos, except: all shards list all
files, k-means grows with the square of the number of cells, the choice of a cell with the number of
cells, and a keypoint file is listed for each part that is merged. There are as many cells as
`veduta.index.cells` makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.block_simulation import expected_seconds_of_restarts
from benchmarks.unit_costs import Assumptions, UnitCosts
from veduta.index import cells, neighbours
from veduta.index.shards import MAX_SHARDS

__all__ = ["Pipeline"]

CODE_BITS_A_BYTE = 8


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps, for the unit costs of one machine and some assumptions."""

    costs: UnitCosts
    assumed: Assumptions

    # Bytes of a photo.

    @property
    def part_bytes(self) -> float:
        """Of a photo in a shard."""
        return self.costs.steps["part, kB"] * 1e3

    @property
    def code_bytes(self) -> float:
        """Of a photo in the cells, with its row."""
        return self.costs.figures["numbers of a descriptor"] / CODE_BITS_A_BYTE + 4

    @property
    def linked_bytes(self) -> float:
        """Of a photo that is read to be linked: code, descriptor and keypoints."""
        return self.code_bytes + self.costs.figures["descriptor, bytes"] + self.keypoint_bytes

    @property
    def keypoint_bytes(self) -> float:
        """Of a photo, as they are stored by default."""
        return self.costs.spreads["keypoints, kB"].mean * 1e3

    def read_keypoint_bytes(self, photos: float) -> float:
        """Return what is read to verify all pairs: each photo, then the others of its pairs."""
        pairs = self.costs.figures["linked pairs of a photo"]
        return photos * (1 + pairs) * self.keypoint_bytes

    # Shards.

    def shards(self, photos: float, workers: int) -> int:
        """Return how many shards make today's workers fastest.

        With more of them, each of which lists all files, more files are listed. With fewer, a
        failure costs more.
        """
        most = min(MAX_SHARDS, self.blocks(photos, self.assumed.block_photos))
        mean = self.assumed.hours_to_failure * 3600

        def seconds(number: int) -> float:
            work = photos / number * self.encoding_seconds / self.assumed.worker_cores
            shard = self.start_seconds + self.listing_seconds(photos) + work
            of_one = expected_seconds_of_restarts(shard, mean, self.assumed.restart_seconds)
            return math.ceil(number / workers) * of_one

        numbers = {min(most, workers * 2**power) for power in range(20)}
        return min(sorted(numbers), key=seconds)

    @staticmethod
    def blocks(photos: float, of_a_block: float) -> int:
        """Return the number of blocks."""
        return math.ceil(photos / of_a_block)

    def listing_seconds(self, photos: float) -> float:
        """Return how long a shard lists the files of all shards."""
        return photos * self.costs.steps["list a file of another shard, µs"] / 1e6

    @property
    def start_seconds(self) -> float:
        """Of a shard."""
        return self.costs.steps["start a shard, s"]

    @property
    def commit_seconds(self) -> float:
        """Of a photo: its row and keypoints are on the disk then."""
        return self.costs.steps["commit, ms"] / 1e3

    @property
    def encoding_seconds(self) -> float:
        """Of a photo on one core, from its file to its row."""
        return self.costs.spreads["all of these, ms"].mean / 1e3

    # Merge, on one core.

    def opening_seconds(self, parts: float) -> float:
        """Return how long it takes to open all parts."""
        return parts * self.costs.steps["open a part, ms"] / 1e3

    def merge_seconds(self, photos: float, parts: float) -> float:
        """Return how long today's merge takes, without the links."""
        listed = parts**2 / 2  # Each part has a keypoint file, and each writer lists those there.
        return (
            self.opening_seconds(parts)
            + photos * self.costs.steps["merge, ms"] / 1e3
            + listed * self.costs.steps["list a keypoint file, µs"] / 1e6
        )

    def choice_seconds(self, photos: float) -> float:
        """Return the time to decide which rows stay."""
        return photos * self.costs.steps["merge: choose a row, µs"] / 1e6

    # Cells and links, in seconds of one core.

    @staticmethod
    def cells(photos: float) -> int:
        """Return the number of cells."""
        return max(1, round(cells._CELLS_PER_ROOT * math.sqrt(photos)))

    def training_seconds(self, photos: float) -> float:
        """Return the time of k-means."""
        number = self.cells(photos)
        distances = cells._TRAINING_PHOTOS_PER_CELL * number**2 * cells._K_MEANS_ROUNDS
        return (
            distances
            * self.costs.steps["cells: k-means, a point and a centre and a round, ns"]
            / 1e9
        )

    def filling_seconds_a_photo(self, photos: float) -> float:
        """Return the time to choose the cell of a photo and to make its code."""
        steps = self.costs.steps
        return (
            steps["cells: the rest of a photo, µs"] / 1e6
            + self.cells(photos) * steps["cells: compare a photo with a centre, ns"] / 1e9
        )

    def asking_seconds(self, photos: float) -> float:
        """Return the time of the exact search of the sample."""
        return photos * self.costs.steps["cells: ask the sample, a photo, µs"] / 1e6

    def cells_seconds(self, photos: float) -> float:
        """Return the time of all that makes cells."""
        return (
            self.training_seconds(photos)
            + photos * self.filling_seconds_a_photo(photos)
            + self.asking_seconds(photos)
        )

    def finding_seconds(self, photos: float) -> float:
        """Return the time to find the nearest photos of all photos."""
        steps, compared = self.costs.steps, min(photos, neighbours._COMPARED_PHOTOS)
        return photos * (
            max(0.0, steps["links: the rest of a photo, µs"]) / 1e6
            + compared * steps["links: compare a code, ns"] / 1e9
        )

    def verifying_seconds(self, photos: float) -> float:
        """Return the time to verify all links."""
        pairs = photos * self.costs.figures["linked pairs of a photo"]
        return pairs * self.costs.spreads["verify a pair, ms"].mean / 1e3

    def weighing_seconds(self, photos: float) -> float:
        """Return the time to weigh the links, which today is that of one thread."""
        return photos * self.costs.steps["links: weights of a photo, µs"] / 1e6

    def links_seconds(self, photos: float) -> float:
        """Return the time of one core for all links."""
        return (
            self.finding_seconds(photos)
            + self.verifying_seconds(photos)
            + self.weighing_seconds(photos)
        )

    # On one machine, by its clock.

    def cells_by_clock(self, photos: float) -> float:
        """Return the seconds of the cells on the machine that merges."""
        return self.cells_seconds(photos) / self.assumed.driver_cores

    def links_by_clock(self, photos: float) -> float:
        """Return the seconds of the links on the machine that merges.

        Keypoints that memory does not hold are read from the disk, in the order of the pairs.
        """
        assumed = self.assumed
        verifying = self.verifying_seconds(photos) / assumed.driver_cores
        if photos * self.keypoint_bytes > assumed.driver_memory_gb * 1e9:
            reading = self.read_keypoint_bytes(photos) / assumed.driver_disk_mb_s / 1e6
            verifying = max(verifying, reading)
        finding = self.finding_seconds(photos) / assumed.driver_cores
        return finding + verifying + self.weighing_seconds(photos)

    # Memory, in bytes.

    def merge_memory(self, photos: float) -> float:
        """Return what a merge holds."""
        return photos * self.costs.steps["memory: merge, bytes"]

    def update_memory(self, photos: float) -> float:
        """Return what a later `veduta index` holds of the rows that are there."""
        return photos * self.costs.steps["memory: update, bytes"]

    def cells_memory(self, photos: float) -> float:
        """Return what holds the cells while they are filled: the codes twice, and the rest."""
        codes = 2 * self.costs.figures["numbers of a descriptor"] / CODE_BITS_A_BYTE
        return photos * (codes + self.costs.steps["memory: cells without codes, bytes"])

    def training_memory(self, photos: float) -> float:
        """Return what k-means holds: the training photos in their principal directions."""
        training = cells._TRAINING_PHOTOS_PER_CELL * self.cells(photos)
        return training * cells._DIRECTIONS * 4

    def links_memory(self, photos: float) -> float:
        """Return what links and weights hold."""
        return photos * self.costs.steps["memory: links, bytes"]
