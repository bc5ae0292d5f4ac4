"""``serpent-infer --compare`` and ``--reference``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serpent.pictures import Picture
    from serpent.pictures.compare import Closeness
    from serpent.runtime.batch import BatchOptions


@dataclass
class Against:
    """What a result is held against.

    Attributes:
        target: where to show the picture and its result side by side, or None.
        reference: what the picture should be, or None.
        truth: the reference, once read.
        found: how close "picture" and "restored" are to it, once measured.
    """

    target: Path | None
    reference: Path | None
    truth: Picture | None = field(default=None, init=False)
    found: dict[str, Closeness] = field(default_factory=dict, init=False)

    def prepare(self, source: Picture, options: BatchOptions) -> None:
        """Fail early where it will fail at all; measure the picture itself.

        Raises:
            PictureError: the reference cannot be read or has another size, or the comparison does not fit its format.
            UsageError: ``target`` cannot be written.
        """
        from serpent.pictures import Encoding, check_picture_target, check_result, read_picture
        from serpent.pictures.compare import closeness, side_by_side

        if self.target is not None:
            check_picture_target(self.target, overwrite=options.overwrite)
        if self.reference is not None:
            self.truth = read_picture(self.reference, max_pixels=options.max_pixels)
            self.found["picture"] = closeness(self.truth, source)
        if self.target is not None:
            check_result(self.target, source, Encoding())
            # The result will be as wide as the picture; one row tells whether the format is wide enough for all.
            shown = [source, source, *([] if self.truth is None else [self.truth])]
            check_result(self.target, side_by_side([_top_row(picture) for picture in shown]), Encoding())

    def write(self, source: Picture, restored: Picture, *, overwrite: bool) -> tuple[str, ...]:
        """Measure the result, and write the comparison; what its format cannot keep, as one-line remarks."""
        from serpent.pictures import write_picture
        from serpent.pictures.compare import closeness, side_by_side

        if self.truth is not None:
            self.found["restored"] = closeness(self.truth, restored)
        if self.target is None:
            return ()
        shown = [source, restored, *([] if self.truth is None else [self.truth])]
        return write_picture(self.target, side_by_side(shown), overwrite=overwrite)

    def figures(self) -> dict[str, Any]:
        """For ``--json``; the PSNR of equal pictures is infinite."""
        figures: dict[str, Any] = {} if self.target is None else {"compare": str(self.target)}
        for name, found in self.found.items():
            figures[f"{name}_psnr"] = round(found.psnr, 4)
            figures[f"{name}_ssim"] = None if found.ssim is None else round(found.ssim, 6)
        if self.found:
            figures["measured_over"] = next(iter(self.found.values())).grounds or "colours"
        return figures

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{name} against {self.reference}: {found}" for name, found in self.found.items()]
        return lines if self.target is None else [*lines, f"side by side: {self.target}"]


def _top_row(picture: Picture) -> Picture:
    return replace(picture, pixels=picture.pixels[:1], alpha=None if picture.alpha is None else picture.alpha[:1])
