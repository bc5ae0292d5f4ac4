"""EXIF as directories of tags, through Pillow's: in blocks, and in TIFF files, where libvips has none of it.

An EXIF block is a small TIFF file of its own (CIPA DC-008, 4.5): its first directory describes the picture and points
to one about the capture and one about the place. A TIFF file has the same in its own first directory.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory
from PIL.TiffTags import LONG, LONG8

from serpent.pictures.headers import UnreadableHeaderError

_PREFIX = b"Exif\0\0"
_FIRST = 0
_POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Of the first directory, what speaks of the picture and not of how the file stores it.
_DESCRIPTIVE = (
    ExifTags.Base.ProcessingSoftware,
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.RatingPercent,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
)
# Of the directory about the capture, what speaks of the file all the same; the last is room to write into.
_OF_THE_FILE = (
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
    ExifTags.Base.ComponentsConfiguration,
    0xEA1C,
)
_INTEROPERABILITY = ExifTags.IFD.Interop  # a place in the old file
_CUT_OFF = -1  # stands for the tags behind the end of a file
_HEADERS = {b"II": b"II*\0\x08\0\0\0", b"MM": b"MM\0*\0\0\0\x08"}


def exif_of_tiff(tiff: bytes) -> tuple[bytes | None, bool]:
    """The EXIF block of a TIFF file, as other formats hold it, if the file has such tags; and whether it is all there.

    Raises:
        UnreadableHeaderError: its directories are damaged.
    """
    with _reading():
        found, whole = _directories(tiff, b"II")
        if not any(found.values()):
            return None, whole
        written, first = _written(found, 8)
        return _PREFIX + _HEADERS[b"II"][:4] + struct.pack("<L", first) + written, whole


def with_exif(tiff: bytes, exif: bytes, width: int, height: int) -> tuple[bytes, bool]:
    """A TIFF file with the tags of an EXIF block added behind its end, and whether it has them all.

    What it stored stays where it was.

    Args:
        tiff: not a BigTIFF.
        exif: the block; orientation and previews stay out.
        width: of the picture, where the block says one.
        height: likewise.

    Raises:
        UnreadableHeaderError: the block is damaged, or the file leaves it no place.
    """
    with _reading():
        order = tiff[:2]
        letter = "<" if order == b"II" else ">"
        found, whole = _directories(exif.removeprefix(_PREFIX), order)
        capture = found[ExifTags.IFD.Exif]
        for tag, size in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in capture:
                capture.tagtype[tag] = LONG
                capture[tag] = size
        padding = b"\0" * (len(tiff) % 2)
        place = len(tiff) + len(padding)
        written, first = _written(found, place)
        (old,) = struct.unpack_from(f"{letter}L", tiff, 4)
        stored = _entries(tiff, old, letter)
        entries = _entries(written, first - place, letter) | stored
        last = bytes(4)  # no directory follows
        table = struct.pack(f"{letter}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + last
        start = struct.pack(f"{letter}L", place + len(written))
        return b"".join((tiff[:4], start, memoryview(tiff)[8:], padding, written, table)), whole


def tags_lost(before: bytes, after: bytes | None) -> list[str]:
    """Names of the tags about the photograph that one block has and another lacks; none where the first is damaged."""
    try:
        with _reading():
            lost = _tags(before) - (set() if after is None else _tags(after))
    except UnreadableHeaderError:
        return []
    names = (ExifTags.GPSTAGS if pointer == ExifTags.IFD.GPSInfo else ExifTags.TAGS for pointer, _ in sorted(lost))
    return [known.get(tag, f"{tag:#06x}") for known, (_, tag) in zip(names, sorted(lost), strict=True)]


def _tags(block: bytes) -> set[tuple[int, int]]:
    found, _ = _directories(block.removeprefix(_PREFIX), b"II")
    return {(pointer, tag) for pointer, directory in found.items() for tag in directory if tag not in _OF_THE_FILE}


@contextmanager
def _reading() -> Iterator[None]:
    """All that Pillow and struct raise over damaged directories, as one error."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        raise UnreadableHeaderError from None


def _directories(data: bytes, order: bytes) -> tuple[dict[int, Directory], bool]:
    """What a TIFF file or EXIF block says of the photograph, by the tag that points there, in the byte order ``order``.

    The first directory, under :data:`_FIRST`, has no pointers; the others may be empty. Beside it, whether every tag
    could be read: Pillow leaves out those that it cannot.
    """
    first, lost = _loaded(data, None, None)
    whole = lost.isdisjoint((*_DESCRIPTIVE, *_POINTERS, _CUT_OFF))
    found = {_FIRST: _copied(first, [tag for tag in _DESCRIPTIVE if tag in first], order, None)}
    for pointer in _POINTERS:
        tags: Collection[int] = ()
        if pointer in first:
            directory, lost = _loaded(data, first[pointer], pointer)
            whole &= lost <= {_INTEROPERABILITY}
            tags = [tag for tag in directory if tag != _INTEROPERABILITY]
            if not tags:
                raise UnreadableHeaderError
            found[pointer] = _copied(directory, tags, order, pointer)
        else:
            found[pointer] = Directory(_HEADERS[order], group=pointer)
    return found, whole


def _loaded(data: bytes, place: int | None, group: int | None) -> tuple[Directory, set[int]]:
    """The directory at ``place``, None for the first, and the tags that are listed there and not in it."""
    big = b"+" in data[2:4]  # 43: BigTIFF
    directory = Directory(data[: 16 if big else 8], group=group)
    place = directory.next if place is None else place
    source = io.BytesIO(data)
    source.seek(place)
    directory.load(source)
    letter, size = "<" if data.startswith(b"II") else ">", 20 if big else 12
    (count,) = struct.unpack_from(f"{letter}{'Q' if big else 'H'}", data, place)
    start = place + (8 if big else 2)
    end = start + size * count
    listed = {
        struct.unpack_from(f"{letter}H", data, at)[0] for at in range(start, min(end, len(data) - size + 1), size)
    }
    return directory, (listed | ({_CUT_OFF} if end > len(data) else set())) - set(directory)


def _copied(directory: Directory, tags: Collection[int], order: bytes, group: int | None) -> Directory:
    copied = Directory(_HEADERS[order], group=group)
    for tag in tags:
        value, kind = directory[tag], directory.tagtype[tag]
        copied.tagtype[tag] = LONG if kind == LONG8 else kind
        # Pillow reads text as Latin-1 and writes ASCII; its bytes may be in any encoding, UTF-8 above all.
        copied[tag] = value.encode("latin-1") if isinstance(value, str) else value
    return copied


def _written(found: dict[int, Directory], place: int) -> tuple[bytes, int]:
    """The directories as they lie from ``place`` on, and where the first one is, which points to the others."""
    written = b""
    first = found[_FIRST]
    for pointer in _POINTERS:
        if found[pointer]:
            first.tagtype[pointer] = LONG
            first[pointer] = place + len(written)
            written += found[pointer].tobytes(place + len(written))
    return written + first.tobytes(place + len(written)), place + len(written)


def _entries(data: bytes, place: int, letter: str) -> dict[int, bytes]:
    """The entries of the directory at ``place``, 12 bytes each, by tag."""
    (count,) = struct.unpack_from(f"{letter}H", data, place)
    entries = [data[at : at + 12] for at in range(place + 2, place + 2 + 12 * count, 12)]
    return {struct.unpack_from(f"{letter}H", entry)[0]: entry for entry in entries}
