"""A contact sheet: the pictures that a model restores worst, and best, side by side with what it was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serpent.evaluation.scores import MODEL, Row

EACH = 3
"""Pictures that are shown of the worst, and of the best."""
CELL = 320
"""Longest side of a shown picture, pixels; larger ones are scaled down."""
_GAP, _LINE = 8, 14


class ContactSheet:
    """Remembers the worst and the best pictures by the model's PSNR, and no others.

    Args:
        each: how many of either.
    """

    def __init__(self, each: int = EACH) -> None:
        self._each = each
        self._kept: list[tuple[float, str, Row, Mapping[str, NDArray[np.float32]]]] = []

    def watch(self, row: Row, pictures: Mapping[str, NDArray[np.float32]]) -> None:
        """Take in one picture of :func:`serpent.evaluation.evaluate`."""
        self._kept.append((row.scores[MODEL].psnr, row.name, row, pictures))
        self._kept.sort(key=lambda kept: kept[:2])
        del self._kept[self._each : -self._each]

    @property
    def rows(self) -> list[Row]:
        """Those that are shown, from the worst to the best."""
        return [row for _, _, row, _ in self._kept]

    def draw(self) -> NDArray[np.float32]:
        """The sheet, a line of pictures for each row: (H, W, 3) float32 in [0, 1].

        Of one row, all pictures are scaled alike.
        """
        lines = [_line(row, pictures) for _, _, row, pictures in self._kept]
        sheet = Image.new("RGB", (max(line.width for line in lines), sum(line.height for line in lines)), "white")
        top = 0
        for line in lines:
            sheet.paste(line, (0, top))
            top += line.height
        return np.asarray(sheet, np.float32) / np.float32(255)


def _line(row: Row, pictures: Mapping[str, NDArray[np.float32]]) -> Image.Image:
    scale = min(1, CELL / max(row.height, row.width))
    width, height = max(1, round(row.width * scale)), max(1, round(row.height * scale))
    step = max(width, CELL // 2) + _GAP  # room for the text below narrow pictures
    line = Image.new("RGB", (_GAP + step * len(pictures), 2 * _LINE + height + _GAP), "white")
    draw = ImageDraw.Draw(line)
    # The built-in font has few letters, and names may be no text at all.
    draw.text((_GAP, 1), row.name.encode("ascii", "backslashreplace").decode(), fill="black")
    for column, (method, pixels) in enumerate(pictures.items()):
        left = _GAP + column * step
        picture = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        if scale < 1:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        line.paste(picture, (left, _LINE))
        scores = row.scores.get(method)
        said = method if scores is None else f"{method} {scores.psnr:.2f} dB, {scores.ssim:.3f}"
        draw.text((left, _LINE + height + 1), said, fill="black")
    return line
