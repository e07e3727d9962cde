"""What the name of a file or folder says: a photo, another file, or nobody's photo.

The tables of nobody's photos are made of what operating systems, network disks and photo programs
leave behind, and of what digiKam, PhotoPrism, Immich and Syncthing pass over.
"""

from __future__ import annotations

from veduta.photos.formats import EXTENSIONS

__all__ = [
    "HIDDEN",
    "SYSTEM",
    "extension_of",
    "is_other_extension",
    "is_photo_extension",
    "is_unread_image_extension",
    "why_ignored",
]

HIDDEN = "hidden"
SYSTEM = "system"

_PHOTO_EXTENSIONS = frozenset(
    extension.encode() for extensions in EXTENSIONS.values() for extension in extensions
)

# Files with these extensions are not opened to see whether they are photos.
_OTHER_EXTENSIONS = frozenset(
    b"7z aac aae ai aif apk asc asf avi bak bat bin blend bz2 c cfg class conf cpp cs css csv ctl "
    b"dat db dbf dll dmg doc docx dylib egg eml eps epub exe flac flv gpx gz h hpp htm html ics "
    b"ico ini ipynb iso jar java js json jsonl kml kmz lance lock log lua m3u m4a m4v map md mdb "
    b"mkv mov mp3 mp4 mpeg mpg mts npy npz o odp ods odt ogg onnx opus parquet pdf php pickle pid "
    b"pkl pl plist po pot ppt pptx properties ps psd pt pth py pyc pyd pyi r rar raw rb rm rs rst "
    b"rtf safetensors scss sh so sql sqlite sqlite3 srt sub svg svgz swf swp tar tex tgz tmp toml "
    b"torrent ts tsv tsx ttf txt url vcf vob wasm wav webm wma wmv woff woff2 xcf xhtml xls xlsx "
    b"xml xmp xsl xz yaml yml zip zst".split()
)

# Images and drawings. A report names them apart from other files.
_UNREAD_IMAGE_EXTENSIONS = frozenset(
    b"ai bpg cin dds dpx emf eps exr flif hdp hdr ico jls jng jpm jxr mng pam pbm pcx pfm pgm pnm "
    b"ppm psb psd qoi raw svg svgz tga wbmp wdp wmf xbm xcf xpm".split()
)

# In lower case. A name that begins with a dot is hidden and needs no line here.
_SYSTEM_FILES = frozenset(
    {
        b"desktop.ini",
        b"ehthumbs.db",
        b"ehthumbs_vista.db",
        b"icon\r",
        b"picasa.ini",
        b"thumbs.db",
        b"zbthumbnail.info",
    }
)
_SYSTEM_FOLDERS = frozenset(
    {
        b"#recycle",  # Synology
        b"#snapshot",
        b"@eadir",
        b"@sharesnap",
        b"@tmp",
        b"@__thumb",  # QNAP
        b"@recently-snapshot",
        b"@recycle",
        b"$recycle.bin",  # Windows
        b"recycled",
        b"recycler",
        b"system volume information",
        b"windows.old",
        b"__macosx",  # macOS
        b"network trash folder",
        b"network recycle bin",  # NETGEAR and older QNAP
        b"network recycle bin 1",
        b"temporary items",
        b"trashbox",  # Buffalo
        b"~snapshot",  # NetApp
        b"lost+found",  # Linux
        b"lost.dir",  # Android
        b"_gsdata_",  # GoodSync
    }
)
_SYSTEM_ENDINGS = (b".lrdata",)  # previews of Lightroom
_SYSTEM_FILE_BEGINNINGS = (b"synofile_thumb_",)  # Synology

# What a Photos, iPhoto or Aperture library holds besides the photos that were put in.
_LIBRARY_ENDINGS = (b".photoslibrary", b".photolibrary", b".migratedphotolibrary", b".aplibrary")
_LIBRARY_ORIGINALS = frozenset({b"originals", b"masters"})


def extension_of(name: bytes) -> bytes:
    """Return what stands behind the last dot of a name, in lower case; empty without a dot."""
    return name.rpartition(b".")[2].lower() if b"." in name else b""


def is_photo_extension(extension: bytes) -> bool:
    """Return whether files with this extension are photos."""
    return extension in _PHOTO_EXTENSIONS


def is_other_extension(extension: bytes) -> bool:
    """Return whether files with this extension are no photos, so that they are not opened."""
    return extension in _OTHER_EXTENSIONS


def is_unread_image_extension(extension: bytes) -> bool:
    """Return whether files with this extension are images of a kind that is not read."""
    return extension in _UNREAD_IMAGE_EXTENSIONS


def why_ignored(name: bytes, folder: bytes = b"", *, is_folder: bool) -> str | None:
    """Return why a file or folder is passed over by its name; None if it is not.

    Args:
        name: the name, without the folder.
        folder: the path or the name of the folder that it lies in.
        is_folder: whether it is a folder.

    Returns:
        `HIDDEN` for a name with a dot in front; `SYSTEM` for what operating systems, network disks
        and photo programs keep beside the photos: recycle bins, snapshots, thumbnails, previews.
    """
    if name.startswith(b"."):
        return HIDDEN
    lower = name.lower()
    if not is_folder:
        is_system = lower in _SYSTEM_FILES or lower.startswith(_SYSTEM_FILE_BEGINNINGS)
    else:
        is_system = lower in _SYSTEM_FOLDERS or lower.endswith(_SYSTEM_ENDINGS)
        if folder.lower().endswith(_LIBRARY_ENDINGS):
            is_system |= lower not in _LIBRARY_ORIGINALS
    return SYSTEM if is_system else None
