"""What a report says beside its pictures."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from serpent_cli.console import human_size
from serpent_cli.markup import Markup, bullets, card, facts, named, paragraph, table

if TYPE_CHECKING:
    from serpent.manifest import Manifest
    from serpent.pictures import Picture
    from serpent_cli.comparison import Against
    from serpent_cli.report import Finished, Shown

_RUNTIMES = ("onnxruntime", "tensorrt", "tensorrt_rtx", "torch")


def summary(done: Finished) -> str:
    """The run in one line."""
    info = done.info
    return (
        f"{_size(done.source)} pixels, {info.config.variant} in {info.precision}, {info.backend} on {info.device}, "
        f"{done.seconds:.2f} s"
    )


def reduction(done: Finished, shown: Shown) -> str:
    """Whether the page shows every pixel."""
    from serpent.pictures.preview import PREVIEW_PIXELS, PREVIEW_SIDE

    whole, small = _size(done.source), _size(shown.pictures["input"])
    if whole == small:
        return "The page shows every pixel, with 8 bits per sample."
    return (
        f"The page shows the pictures reduced from {whole} to {small} pixels, with 8 bits per sample (its limit is "
        f"{PREVIEW_PIXELS / 1e6:.0f} million pixels, and {PREVIEW_SIDE} to a side); all figures are of the whole ones."
    )


def footer() -> str:
    """Who made the page."""
    import serpent

    return f"Made by serpent {serpent.__version__} on {datetime.now(UTC):%Y-%m-%d}. The page loads nothing."


def cards(done: Finished, against: Against, shown: Shown) -> Markup:
    """Every section, in order."""
    from serpent.manifest import load_manifest

    manifest = None if done.model.manifest is None else load_manifest(done.model.manifest)
    quality = () if not against.found else (_quality(against),)
    notes = [*done.notes, *(f"the model file differs: {each}" for each in done.model.differences)]
    return Markup(
        "\n".join(
            (
                *quality,
                _pictures(done, against),
                _differences(shown),
                _timings(done),
                _engine(done, manifest),
                _parity(done, manifest),
                card("Notes", bullets(notes) if notes else paragraph("None.")),
            )
        )
    )


def _size(picture: Picture) -> str:
    height, width, _ = picture.pixels.shape
    return f"{width}x{height}"


def _quality(against: Against) -> Markup:
    assert against.reference is not None
    labels = {"picture": "Input", "restored": "Result"}
    rows = [
        (labels[name], f"{found.psnr:.2f} dB", "-" if found.ssim is None else f"{found.ssim:.4f}")
        for name, found in against.found.items()
    ]
    over = next(iter(against.found.values())).grounds
    how = "over their colours" if over is None else f"laid on {over}, over both views"
    sentence = Markup(f"<p>Against {named(against.reference)}: whole pictures, {how}, before any encoding.</p>")
    return card("Closeness to the reference", table(("", "PSNR", "SSIM"), rows), sentence)


def _pictures(done: Finished, against: Against) -> Markup:
    source = done.source
    kind = [_size(source), "float" if source.bits > 16 else f"{source.bits} bits per sample"]
    kind += ["gray"] if source.gray else []
    kind += ["with transparency"] if source.alpha is not None else []
    kind += ["with a colour profile"] if source.metadata.icc is not None else []
    return card(
        "Pictures",
        facts(
            {
                "Input": named(done.picture),
                "": ", ".join(kind),
                "Result": named(done.target),
                "Reference": None if against.reference is None else named(against.reference),
            }
        ),
        paragraph(
            "The result is shown and measured as the network gave it, before it was encoded"
            + ("." if done.resize is None else f" and resized ({done.resize}).")
        ),
    )


def _differences(shown: Shown) -> Markup:
    rows = [
        (f"{a.capitalize()} and {b}", f"{255 * found.mean:.2f}", f"{255 * found.largest:.0f}")
        for (a, b), found in shown.differences.items()
    ]
    return card("Differences", table(("", "mean", "largest"), rows), paragraph(f"In levels of 255. {shown.amplified}"))


def _timings(done: Finished) -> Markup:
    height, width, _ = done.source.pixels.shape
    return card(
        "Timings",
        facts(
            {
                "Loading": f"{done.load_seconds:.2f} s",
                "Restoring": f"{done.seconds:.2f} s",
                "Per megapixel": f"{done.seconds / (width * height / 1e6):.3g} s",
            }
        ),
    )


def _engine(done: Finished, manifest: Manifest | None) -> Markup:
    import serpent

    info, found = done.info, done.model.facts
    loaded = (f"{name} {getattr(sys.modules[name], '__version__', '')}" for name in _RUNTIMES if name in sys.modules)
    versions = [f"serpent {serpent.__version__}", *loaded, f"Python {platform.python_version()}"]
    tools = None if manifest is None else _pairs(manifest.fields.get("tools"))
    return card(
        "Engine",
        facts(
            {
                "File": named(done.model.path),
                "Size": human_size(found["bytes"]),
                "SHA-256": found["sha256"],
                "Variant": info.config.variant,
                "Task": info.task,
                "Backend": info.backend,
                "Device": info.device,
                "Scan": info.scan,
                "Precision": info.precision,
                "Border": info.io,
                "Weights": info.weights,
                "Weights' SHA-256": found.get("weights_sha256"),
                "Engine": _pairs(found.get("engine")),
                "Versions": ", ".join(versions),
                "Exported with": tools,
            }
        ),
    )


def _pairs(fields: Any) -> str | None:
    """Names and values of a manifest's object, without what lies deeper."""
    if not isinstance(fields, dict):
        return None
    return ", ".join(f"{key} {value}" for key, value in fields.items() if isinstance(value, (str, int))) or None


def _parity(done: Finished, manifest: Manifest | None) -> Markup:
    title = "Parity with PyTorch in f64"
    parity = None if manifest is None else manifest.fields.get("parity")
    if manifest is None or not isinstance(parity, dict):
        return card(title, paragraph("No manifest with a parity certificate lies beside the model."))
    try:
        sentence = str(parity["statement"])
        rows = [row for case in parity["cases"] for row in _case(case)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return card(title, paragraph(f"{manifest.path.name} has a damaged certificate: {error!r}"))
    of = "the exported ONNX file" if done.model.kind == "onnx" else "the exported ONNX file, not of this one"
    whose = Markup(f"<p>Certificate of {of}, from {named(manifest.path)}.</p>")
    head = ("Picture", "Precision", "Scan", "max |d|", "Limit")
    return card(title, paragraph(f"{sentence}."), table(head, rows), whose)


def _case(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each way that a case's scan was run."""
    size = "x".join(str(case["input"][side]) for side in ("batch", "height", "width"))
    limit = f"{float(case['limit']['max']):.2e}"
    return [
        (size, str(case["precision"]), str(scan), f"{float(errors['max']):.2e}", limit)
        for scan, errors in case["onnxruntime"].items()
    ]
