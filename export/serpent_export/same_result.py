"""A file that is a variant of the certified graph gives the certified graph's result, value for value."""

from __future__ import annotations

import onnx

from serpent import native
from serpent.errors import ParityError
from serpent.runtime.border import from_border, to_border
from serpent.runtime.onnx_session import RunTimes, ScanChoice, make_runner
from serpent.runtime.sample_picture import picture_recipe
from serpent_export.parity import ParitySubject


def check_same_result(subject: ParitySubject, variant: onnx.ModelProto, *, io: str, scan: ScanChoice) -> None:
    """Run both by ONNX Runtime and compare.

    Args:
        subject: the certified graph, f32 at its border, and the size to run at.
        variant: the same network with another border, or with its scans inlined.
        io: the variant's border.
        scan: how both run their scans; a variant with inlined scans has "function" alone.

    Raises:
        ParityError: a value differs.
    """
    _, picture = picture_recipe(subject.height, subject.width, batch=subject.batch)
    image = to_border(picture, io)
    results = []
    for model, given in ((subject.model, from_border(image, io)), (variant, image)):
        results.append(make_runner(model, scan, native.default_threads(), RunTimes())(given))
    expected = to_border(results[0], io)
    different = int((results[1] != expected).sum())
    if different or results[1].dtype != expected.dtype:
        raise ParityError(
            f"the file's variant (border {io}) changes the result: {different} of {expected.size} values differ from "
            "the certified graph's",
            hint="nothing was written; please report this with the command you typed",
        )
