"""Picture files: every common format and depth, with what travels beside the pixels."""

from serpent.pictures.alpha import fill_hidden
from serpent.pictures.formats import FLOAT_DEPTH, FORMATS, Format, format_of
from serpent.pictures.picture import MAX_PIXELS, JpegCoding, Metadata, Picture
from serpent.pictures.read import read_picture
from serpent.pictures.write import Encoding, check_picture_target, check_result, write_picture

__all__ = [
    "FLOAT_DEPTH",
    "FORMATS",
    "MAX_PIXELS",
    "Encoding",
    "Format",
    "JpegCoding",
    "Metadata",
    "Picture",
    "check_picture_target",
    "check_result",
    "fill_hidden",
    "format_of",
    "read_picture",
    "write_picture",
]
