"""What clients send and get, as the OpenAPI document describes it."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from veduta.search.options import ORIENTATIONS, RERANK_MODES
from veduta.web.keys import Scope

__all__ = [
    "ChangedLabels",
    "ExplainRequest",
    "ExplanationAnswer",
    "Facets",
    "Filters",
    "FoundPhoto",
    "GroupAnswer",
    "GroupList",
    "IndexRequest",
    "IndexVersion",
    "JobAnswer",
    "LabelChange",
    "LabelChanges",
    "MapScale",
    "MatchAnswer",
    "MatchRequest",
    "NewLabel",
    "PhotoAnswer",
    "PhotoId",
    "PhotoIds",
    "PhotoList",
    "PlaceList",
    "PreviewSide",
    "RecognizeAnswer",
    "RecognizeRequest",
    "SearchAnswer",
    "SearchRequest",
    "SimilarityMap",
]

MAX_LIMIT = 200
MAX_LABEL_LETTERS = 500
MAX_TEXT_LETTERS = 4096
MAX_INT64 = 2**63 - 1

PhotoId = Annotated[int, Field(ge=0, le=MAX_INT64)]
Position = Annotated[int, Field(ge=0, le=2**31)]
Length = Annotated[int, Field(ge=1, le=2**31)]
BoxField = tuple[Position, Position, Length, Length]
Text = Annotated[str, Field(max_length=MAX_TEXT_LETTERS)]
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_LETTERS)]
RerankMode = Literal[RERANK_MODES]  # type: ignore[valid-type]
OrientationName = Literal[ORIENTATIONS]  # type: ignore[valid-type]
Region = list[tuple[float, float]]


class PreviewSide(IntEnum):
    """Longest side of a preview, in pixels."""

    SMALL = 800
    MEDIUM = 1600
    LARGE = 3200


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Filters(_Sent):
    """Conditions on photos. A photo must meet all that are given."""

    label: list[Label] | None = Field(None, description="One of these labels.")
    folder: Text | None = Field(None, description="In this folder or below it.")
    after: Text | None = Field(None, description="Taken at this time or later (ISO 8601).")
    before: Text | None = Field(None, description="Taken earlier than this (ISO 8601).")


class _Query(_Sent):
    index: Text | None = Field(None, description="Name of the index; none: the first.")
    photo_id: PhotoId | None = Field(None, description="A photo of the index as the query.")
    box: BoxField | None = Field(
        None, description="x, y, width, height in pixels of the upright query: only this region."
    )
    orientation: OrientationName = Field("auto", description="How the query is turned.")


class SearchRequest(_Query):
    """A search. With a form, the photos are the query; with JSON, `photo_id` is."""

    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    limit: int = Field(20, ge=1, le=MAX_LIMIT, description="Most results of a page.")
    cursor: Text | None = Field(None, description="`next` of the page before.")
    rerank: RerankMode = Field("auto", description="How the nearest photos are ranked.")
    verify: int = Field(50, ge=1, le=500, description="How many photos geometry verifies.")
    min_score: float | None = Field(None, allow_inf_nan=False)
    fold_copies: bool = Field(False, description="Copies of one photo are one result.")
    not_ids: list[PhotoId] = Field(
        [], max_length=MAX_LIMIT, description="Photos that were called wrong: they are no results."
    )
    mark_copies: bool = Field(True, description="Fill in `copy_of`.")


class MatchRequest(_Query):
    """Two photos to compare: those of the form, `photo_id`, `other_id`. A box is of the first."""

    other_id: PhotoId | None = Field(None, description="A photo of the index as the other one.")
    max_lines: int = Field(200, ge=0, le=2000, description="Most lines between agreeing points.")


class RecognizeRequest(_Query):
    """A photo to name."""

    precision: float = Field(
        0.95, ge=0.5, le=0.99, description="The share of names that should be right."
    )


class ExplainRequest(_Query):
    """A query, and the photo whose similarity to it is explained: `hit_id`, or a second photo."""

    hit_id: PhotoId | None = Field(None, description="The photo of the index.")
    side: int = Field(800, ge=100, le=2000, description="Width of a picture, in pixels.")


class NewLabel(_Sent):
    """A label, or null to take it away."""

    label: Label | None


class LabelChange(_Sent):
    """A photo and its new label."""

    id: PhotoId
    label: Label | None


class LabelChanges(_Sent):
    """New labels of several photos."""

    changes: list[LabelChange] = Field(min_length=1, max_length=10_000)


class IndexRequest(_Sent):
    """What an indexing run does. Without folders, those of the index are updated."""

    index: Text | None = None
    folders: list[Text] = Field([], max_length=100)
    labels: Text | None = Field(None, description='"folders", "none", or the path of a CSV file.')
    exclude: list[Text] | None = None
    allow_empty: bool = False
    allow_label_loss: bool = False
    reread: bool = False
    accept_truncated: bool = False
    all_photos: bool = Field(False, description="Add photos again that were removed.")


class IndexVersion(BaseModel):
    """The index that answered, and its version: any change gives it another one."""

    name: str
    version: str


class FoundPhoto(BaseModel):
    """A photo that answers a query, with the evidence."""

    id: int
    path: str
    name: str
    label: str | None
    width: int
    height: int
    taken: str | None
    score: float
    score_kind: str
    similarity: float
    probability: float | None
    verdict: str | None
    reason: str | None
    inliers: int | None
    matches: int | None
    model: str | None
    spread: float | None
    box: tuple[float, float, float, float] | None = Field(
        description="Around the part that the query shows too, by geometry, or else `found_in`: x, "
        "y, width, height in pixels."
    )
    region: Region | None
    query_region: Region | None
    found_in: tuple[int, int, int, int] | None = Field(
        description="The region by which the photo was found rather than as a whole: x, y, width, "
        "height in pixels."
    )
    orientation: str
    copies: list[str] | None
    copy_of: str | None = Field(
        description='"query": a copy of the query; else the path of the result it is a copy of.'
    )


class SearchAnswer(BaseModel):
    """One page of a search."""

    results: list[FoundPhoto]
    next: str | None
    orientation: str
    timings: dict[str, float] = Field(description="Seconds of each step.")
    index: IndexVersion
    notice: str | None


class MatchAnswer(BaseModel):
    """What two photos have in common."""

    verdict: str
    reason: str
    probability: float | None
    similarity: float
    inliers: int
    matches: int
    model: str | None
    spread: float
    regions: list[Region] | None
    lines: list[tuple[float, float, float, float]] = Field(
        description="x, y in the first and x, y in the second photo, of points that agree."
    )
    sizes: list[tuple[int, int]] = Field(
        description="Width and height of both photos, or of the box of the first."
    )
    geometry: str = Field(description="On what the keypoints agree, in words.")
    is_copy: bool = Field(description="Whether both are the same picture.")
    notes: list[str]
    orientation: str
    timings: dict[str, float]
    index: IndexVersion


class RunnerUp(BaseModel):
    """A name that is less likely."""

    label: str
    confidence: float


class RecognizeAnswer(BaseModel):
    """What a photo shows: a label, or null with the reason."""

    label: str | None
    guess: str | None
    confidence: float
    threshold: float | None
    reason: str | None
    runners_up: list[RunnerUp]
    hits: list[FoundPhoto]
    orientation: str
    timings: dict[str, float]
    index: IndexVersion


class SimilarityMap(BaseModel):
    """How much each region of a photo adds to a similarity."""

    model_config = ConfigDict(extra="allow")

    map: list[list[float]]
    box: tuple[int, int, int, int] = Field(
        description="x, y, width, height of what the map covers, in pixels of `size`."
    )
    size: tuple[int, int] = Field(description="Width and height of the photo as it was compared.")
    strongest: str = Field(description="Where the map is strongest, in words.")


class MapScale(BaseModel):
    """The colours of both maps."""

    low: float
    high: float
    colours: list[str] = Field(description="From low to high, in equal steps, such as #0a0722.")
    texts: list[str] = Field(description="What is written at the scale, in equal distances.")


class ExplanationAnswer(SimilarityMap):
    """The map of a similarity over the query, and over the photo."""

    similarity: float
    against: SimilarityMap
    scale: MapScale
    timings: dict[str, float]
    index: IndexVersion


class PhotoAnswer(BaseModel):
    """A photo of the index."""

    id: int
    path: str
    name: str
    label: str | None
    width: int
    height: int
    taken: str | None


class PhotoList(BaseModel):
    """One page of photos."""

    photos: list[PhotoAnswer]
    total: int
    next: str | None
    index: IndexVersion


class PhotoIds(BaseModel):
    """The numbers of photos."""

    ids: list[int]
    index: IndexVersion


class Place(BaseModel):
    """Where a photo was taken, in degrees north and east."""

    id: int
    lat: float
    lon: float


class PlaceList(BaseModel):
    """Where photos were taken, by the GPS of their cameras."""

    points: list[Place]
    without: int = Field(description="Number of photos without a place.")
    stored: bool = Field(description="Whether the index stores places; older ones do not.")
    index: IndexVersion


class GroupAnswer(BaseModel):
    """Photos that show the same place or object."""

    id: int = Field(description="`id` of the best photo. Any photo of the group names it.")
    name: str
    label: str | None = Field(description="The label that more than half of the photos have.")
    size: int = Field(description="The number of different pictures.")
    best: PhotoAnswer
    photo_ids: list[int] = Field(description="All photos, the best first, the copies last.")
    copy_ids: list[int] = Field(description="Those that are copies of another one.")
    first_taken: str | None
    last_taken: str | None


class GroupList(BaseModel):
    """One page of groups, the largest first."""

    groups: list[GroupAnswer]
    total: int
    next: str | None
    index: IndexVersion


class LabelFacet(BaseModel):
    """A label and how many photos have it; null: no label."""

    label: str | None
    photos: int


class FolderFacet(BaseModel):
    """A folder and how many photos are in it."""

    folder: str
    photos: int


class MonthFacet(BaseModel):
    """A month (YYYY-MM) and how many photos were taken in it; null: no date."""

    month: str | None
    photos: int


class Facets(BaseModel):
    """By what photos can be filtered."""

    labels: list[LabelFacet]
    folders: list[FolderFacet]
    months: list[MonthFacet]
    index: IndexVersion


class ChangedLabel(BaseModel):
    """A label that was changed. Send `previous` to undo it."""

    id: int
    label: str | None
    previous: str | None


class ChangedLabels(BaseModel):
    """Labels that were changed."""

    changes: list[ChangedLabel]
    index: IndexVersion


class JobAnswer(BaseModel):
    """An indexing run and its state."""

    model_config = ConfigDict(extra="allow")

    id: str
    index: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]


class IndexFacts(BaseModel):
    """An index of this server."""

    name: str
    photos: int
    version: str
    encoder: str
    verifies: bool
    regions: bool
    labels: int
    locked: bool
    notice: str | None


class IndexList(BaseModel):
    """The indexes of this server; the first is the default."""

    indexes: list[IndexFacts]


class ServiceFacts(BaseModel):
    """The server, and what this client may do."""

    version: str
    api: str
    scope: Scope | None
    read_only: bool
    originals: bool
    max_upload_bytes: int
    max_upload_pixels: int
    device: str


class Health(BaseModel):
    """Whether the server answers."""

    status: str


class SentKey(_Sent):
    """A key, to be kept in a cookie of this browser."""

    key: Annotated[str, Field(max_length=200)]


class SessionAnswer(BaseModel):
    """What the key allows."""

    scope: Scope
