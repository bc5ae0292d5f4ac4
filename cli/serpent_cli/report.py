"""``serpent-infer --report``: one picture, its result and how it came about, as a page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from serpent_cli.comparison import Against
from serpent_cli.markup import Markup, text

if TYPE_CHECKING:
    from serpent.pictures import Picture
    from serpent.pictures.preview import Difference
    from serpent.runtime.inspection import Inspection
    from serpent.runtime.session import SessionInfo

_LABELS = {"input": "Input", "result": "Result", "reference": "Reference"}
_PAIRS = (("input", "result"), ("input", "reference"), ("result", "reference"))
_LEVELS = 255


@dataclass(frozen=True)
class Finished:
    """One restored picture, and how it came about.

    Attributes:
        picture: where it was read.
        target: where the result was written.
        source: the picture.
        restored: the result, before it was encoded.
        info: what the session ran.
        model: what the model file is.
        load_seconds: for opening the model.
        seconds: for restoring.
        resize: what ``--resize`` made of the result's size when it was written, or None.
        notes: one-line remarks.
    """

    picture: Path
    target: Path
    source: Picture
    restored: Picture
    info: SessionInfo
    model: Inspection
    load_seconds: float
    seconds: float
    resize: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Shown:
    """The pictures of a page, by the words of :data:`_LABELS`.

    Attributes:
        pictures: previews.
        differences: by pair.
        factor: how many times their size the differences are shown.
    """

    pictures: dict[str, Picture]
    differences: dict[tuple[str, str], Difference]
    factor: int

    @property
    def amplified(self) -> str:
        """How large the differences are shown."""
        size = "as they are" if self.factor == 1 else f"{self.factor} times their size"
        return f"The page shows differences {size}, |a - b| in each channel."

    @classmethod
    def of(cls, done: Finished, truth: Picture | None) -> Shown:
        """Previews and differences of what there is."""
        from serpent.pictures.preview import amplification, difference, preview

        whole = {"input": done.source, "result": done.restored} | ({} if truth is None else {"reference": truth})
        differences = {(a, b): difference(whole[a], whole[b]) for a, b in _PAIRS if a in whole and b in whole}
        previews = {name: preview(picture) for name, picture in whole.items()}
        return cls(previews, differences, amplification(list(differences.values())))


def check_report_target(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`write_report` could not finish, and names that are no page's.

    Raises:
        UsageError: another suffix than .html or .htm, an existing file without ``overwrite``, or no such folder.
        SerpentError: the folder is read-only.
    """
    from serpent.errors import UsageError
    from serpent.files import check_writable_target

    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} has the suffix {path.suffix!r}; a report is HTML", hint=f"name it {path.stem}.html")
    check_writable_target(path, overwrite=overwrite)


def write_report(path: Path, done: Finished, against: Against, *, overwrite: bool) -> None:
    """Write the page; it appears whole or not at all.

    Raises:
        UsageError: as :func:`check_report_target` says.
        SerpentError: the folder is read-only or full.
    """
    from serpent.files import written_aside

    check_report_target(path, overwrite=overwrite)
    page = compose(done, against)
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")


def compose(done: Finished, against: Against) -> str:
    """The page as text."""
    from serpent_cli.report_cards import cards, footer, reduction, summary

    shown = Shown.of(done, against.truth)
    parts = {name: _part(f"page.{name}") for name in ("css", "js")}
    name = done.picture.name
    return Template(_part("page.html")).substitute(
        policy=_policy(parts["css"], parts["js"]),
        title=text(f"{name}, restored"),
        heading=Markup(f"<bdi>{text(name)}</bdi>"),
        summary=text(summary(done)),
        pairs=_pairs(shown),
        frames=_frames(shown),
        shown=text(reduction(done, shown)),
        cards=cards(done, against, shown),
        footer=text(footer()),
        style=parts["css"],
        script=parts["js"],
    )


def _part(name: str) -> str:
    return (files("serpent_cli") / "report_page" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing runs or is loaded but this style, this script, and pictures within the page."""

    def source(code: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(style)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _pairs(shown: Shown) -> Markup:
    """The choice of two pictures, where there are more than two."""
    if len(shown.differences) == 1:
        return Markup('<input type="hidden" name="pair" value="input result">')
    choices = []
    for number, (a, b) in enumerate(shown.differences):
        checked = "" if number else " checked"
        radio = f'<input type="radio" name="pair" value="{a} {b}" autocomplete="off"{checked}>'
        choices.append(f"<label>{radio}<span>{_LABELS[a]} / {_LABELS[b].lower()}</span></label>")
    return Markup(f"<fieldset><legend>Pictures</legend>{''.join(choices)}</fieldset>")


def _frames(shown: Shown) -> Markup:
    from serpent.pictures import Picture

    frames = [_frame(name, _LABELS[name], picture) for name, picture in shown.pictures.items()]
    for (a, b), found in shown.differences.items():
        label = f"{_LABELS[a]} and {_LABELS[b].lower()}, difference x{shown.factor}"
        caption = (
            f"{_LABELS[a]} and {_LABELS[b].lower()} differ by {_LEVELS * found.mean:.2f} levels of {_LEVELS} in the "
            f"mean, at most by {_LEVELS * found.largest:.0f}. {shown.amplified}"
        )
        # write_picture's rounding clips what amplification brought above white.
        frames.append(_frame(f"{a}-{b}", label, Picture(found.pixels * shown.factor), caption))
    return Markup("\n".join(frames))


def _frame(name: str, label: str, picture: Picture, caption: str = "") -> Markup:
    from serpent.pictures.write import encoded_png

    height, width, _ = picture.pixels.shape
    data = base64.b64encode(encoded_png(picture)).decode()
    side = {"input": ' data-side="left"', "result": ' data-side="right"'}.get(name, "")
    return Markup(
        f'<div class="frame" data-picture="{name}" data-label="{text(label)}" data-caption="{text(caption)}"{side}>'
        f'<img alt="{text(label)}" width="{width}" height="{height}" draggable="false" '
        f'src="data:image/png;base64,{data}"></div>'
    )
