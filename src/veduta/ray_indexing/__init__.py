"""Index a collection on many machines with Ray: shards are its blocks, and a merge joins them."""

from veduta.ray_indexing.address import RayAddress
from veduta.ray_indexing.report import FailedBlock, RayReport
from veduta.ray_indexing.run import RunOptions, index_with_ray

__all__ = ["FailedBlock", "RayAddress", "RayReport", "RunOptions", "index_with_ray"]
