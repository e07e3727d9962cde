"""Search with photos that may be turned or mirrored: in the orientation in which they fit best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from veduta.photos.orientation import Orientation, orientation_named
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.engine import Engine
from veduta.search.hits import Hits
from veduta.search.options import AUTO, SearchOptions, check_numbers
from veduta.search.query import Box, EncodedQuery, PhotoSource
from veduta.search.same_pictures import Picture
from veduta.search.watching import watcher

__all__ = ["search_photos", "without_reranking"]


def search_photos(
    engine: Engine,
    photos: Sequence[PhotoSource],
    options: SearchOptions | None = None,
    *,
    crop: Box | None = None,
) -> Hits:
    """Return the best photos of an index for a query.

    Args:
        engine: of the index.
        photos: one photo, or several photos of one thing. All are turned alike.
        options: how to search; None: the defaults.
        crop: search for this region of the photos only, in pixels of a photo as it is given,
            upright by its Exif.

    Raises:
        PhotoError: a photo cannot be read.
        QueryError: the region is not within a photo, or the options do not go with each other or
            with this index.
        EncoderMismatch: the index was replaced by another one meanwhile.
    """
    options = options or SearchOptions()
    check_numbers(options)
    # Hits by another distance are not re-ranked.
    rerank = options.rerank if options.distance == "cosine" else "none"
    views = engine.query_views(photos, crop=crop, rerank=rerank)
    best_only = replace(
        options,
        k=1,
        rerank="none",
        distance="cosine",
        min_score=None,
        fold_copies=False,
        mark_copies=False,
    )

    def pictures(orientation: Orientation) -> list[Picture]:
        """Return the whole photos in an orientation. A region of a photo is no copy of it."""
        if crop is not None or not options.mark_copies:
            return []
        return [Picture.of(photo.pixels) for photo in views.photos(orientation)]

    first = orientation_named("upright" if options.orientation == AUTO else options.orientation)
    told = watcher()
    if told is not None and rerank != "none":
        query = EncodedQuery(views.descriptor(first), space=views.space, orientation=first)
        nearest = engine.search(query, without_reranking(options), pictures(first))
        told.nearest(Hits(nearest, first))

    def attempt(orientation: Orientation) -> Attempt[Hits]:
        query = views.encoded(orientation)
        hits = engine.search(query, options, pictures(orientation))
        gallery = engine.state.gallery
        return Attempt.of(
            Hits(hits, orientation),
            hits,
            verified=views.verified,
            stands_out=gallery.stands_out(query.descriptor, [hit.similarity for hit in hits]),
        )

    def similarity(orientation: Orientation) -> float:
        query = EncodedQuery(views.descriptor(orientation), space=views.space)
        return max((hit.similarity for hit in engine.search(query, best_only)), default=-1.0)

    return best_attempt(
        options.orientation,
        attempt,
        similarity,
        verified=views.verified,
        is_promising=lambda turn: engine.is_promising(views.encoded(turn), options),
    )


def without_reranking(options: SearchOptions) -> SearchOptions:
    """Return the options of a first, quick answer.

    A least score is meant for the scores of the whole answer, so it is left out.

    Args:
        options: of the whole answer.
    """
    return replace(options, rerank="none", min_score=None)
