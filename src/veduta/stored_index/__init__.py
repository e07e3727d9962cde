"""Indexes in object stores: published from a machine, and copied to the machines that search."""

from veduta.stored_index.addresses import is_store_url
from veduta.stored_index.changing import Change, changing
from veduta.stored_index.fetching import local_copy, local_index
from veduta.stored_index.opening import open_store
from veduta.stored_index.publishing import Published, publish
from veduta.stored_index.store import ObjectMissing, Store, Tag, Tagged

__all__ = [
    "Change",
    "ObjectMissing",
    "Published",
    "Store",
    "Tag",
    "Tagged",
    "changing",
    "is_store_url",
    "local_copy",
    "local_index",
    "open_store",
    "publish",
]
