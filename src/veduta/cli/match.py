"""`veduta match`."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from veduta.cli.options import CropType, OutputFile, device_option, json_option, orientation_option
from veduta.cli.printing import bounds, file_url, print_json, say, shown
from veduta.files import atomic_file
from veduta.search.options import RICHEST_KEYPOINTS
from veduta.text import count

if TYPE_CHECKING:
    from veduta.photos.orientation import Box
    from veduta.search.pair import Match
    from veduta.search.photo_keypoints import PhotoKeypoints

_SUFFIXES = (".png", ".jpg", ".jpeg")

_JPEG_QUALITY = 92
"""High, because JPEG blurs thin coloured lines."""


class _PictureFile(OutputFile):
    """A file with the ending of PNG or JPEG."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check the ending of the name."""
        if not os.fspath(value).lower().endswith(_SUFFIXES):
            self.fail(f"'{shown(value)}' does not end in {', '.join(_SUFFIXES)}.", param, ctx)
        return super().convert(value, param, ctx)


@click.command("match")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", required=False, type=click.Path(path_type=Path))
@device_option
@json_option
@click.option(
    "--picture",
    type=_PictureFile(),
    metavar="FILE",
    help="Write a PNG or JPEG: both photos with their matches, or one with its keypoints.",
)
@click.option("--open", "open_picture", is_flag=True, help="Open the picture.")
@click.option("--encoder", metavar="NAME", help="Encoder: see `veduta models`.")
@click.option(
    "--keypoints",
    metavar="NAME",
    default=RICHEST_KEYPOINTS,
    show_default=True,
    help="xfeat, sift, orb or surf, with their largest number.",
)
@click.option("--crop", type=CropType(), help="Compare only this region of A, in pixels.")
@partial(orientation_option, photo="A")
def command(
    a: Path,
    b: Path | None,
    as_json: bool,
    picture: Path | None,
    open_picture: bool,
    encoder: str | None,
    keypoints: str,
    crop: Box | None,
    orientation: str,
) -> None:
    """Say whether the photos A and B show the same place, and why.

    The verdict is "same place", "unsure" or "different"; the exit code is 0 for each of them. The
    same place takes a geometric model on which the keypoints agree, and a probability of 0.9. The
    probability alone is no verdict: it can be high for photos that only look alike.

    With A alone, the keypoints of that photo are counted, and drawn with --picture: a circle for
    their scale, a line for their direction. xfeat keypoints have neither.
    """
    from veduta import api
    from veduta.encoders import DEFAULT

    answer: Match | PhotoKeypoints
    if b is None:
        if encoder is not None:
            raise click.UsageError("--encoder goes with two photos. Keypoints need none.")
        if orientation != "auto":
            raise click.UsageError("--orientation goes with two photos.")
        if crop is not None:
            raise click.UsageError("--crop goes with two photos.")
        answer = api.find_keypoints(a, keypoints=keypoints)
        if as_json:
            print_json({"photo": os.fspath(a), **answer.as_json()})
        else:
            _print_keypoints(answer, a)
    else:
        answer = api.match(
            a,
            b,
            encoder=encoder or DEFAULT,
            keypoints=keypoints,
            crop=crop,
            orientation=orientation,
        )
        if as_json:
            print_json({"a": os.fspath(a), "b": os.fspath(b), **answer.as_json()})
        else:
            _print_match(answer, a, b)
    if picture or open_picture:
        _write_picture(answer, picture, open_picture)


def _print_keypoints(found: PhotoKeypoints, photo: Path) -> None:
    limit = ", the largest number that is kept" if len(found) == found.most else ""
    say(f"{count(len(found), f'{found.kind} keypoint')}{limit}")
    say(f"  photo       {found.points.width} × {found.points.height} pixels, {shown(photo)}")
    if found.points.diameters is None:
        say("  scale       none, and no direction: the picture has rings of one size")
    elif diameters := found.points.diameters.tolist():
        say(
            f"  diameter    {min(diameters):.1f} to {max(diameters):.1f} pixels, "
            f"median {median(diameters):.1f}"
        )


def _print_match(match: Match, a: Path, b: Path) -> None:
    say(f": {match.reason}", bold=match.verdict)
    if match.probability is not None:
        say(f"  probability {match.probability:.3f}, by similarity and matches")
    say(f"  similarity  {match.similarity:.3f}")
    say(f"  geometry    {match.geometry}")
    if match.is_copy:
        say("  copy        both are the same picture")
    if match.orientation.is_turned:
        say(f"  orientation {shown(a)} was {match.orientation.words}")
    for path, region in zip((a, b), match.regions or (), strict=False):
        say(f"  both show   {bounds(region)} of {shown(path)}")
    for note in match.notes:
        say(f"  {note}")


def _write_picture(answer: Match | PhotoKeypoints, file: Path | None, open_picture: bool) -> None:
    """Write the picture to `file`, or to a temporary file that stays, and open it if wanted."""
    if file is None:
        handle, name = tempfile.mkstemp(prefix="veduta-", suffix=".png")
        os.close(handle)
        file = Path(name)
    image = answer.picture()
    with atomic_file(file) as draft:
        if file.suffix.lower() == ".png":
            image.save(draft, "PNG")
        else:
            image.save(draft, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    say(f"wrote {shown(file)}", err=True)
    if open_picture:
        click.launch(file_url(file))
