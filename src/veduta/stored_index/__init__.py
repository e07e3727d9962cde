"""Indexes in object stores: published from a machine, and copied to the machines that search."""

from veduta.stored_index.addresses import is_store_url
from veduta.stored_index.fetching import local_copy
from veduta.stored_index.opening import open_store
from veduta.stored_index.publishing import Published, publish
from veduta.stored_index.store import ObjectMissing, Store, Tag, Tagged

__all__ = [
    "ObjectMissing",
    "Published",
    "Store",
    "Tag",
    "Tagged",
    "is_store_url",
    "local_copy",
    "open_store",
    "publish",
]
