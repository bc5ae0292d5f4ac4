"""What TensorRT says of a plan without loading it: its verdict on the header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serpent.errors import SerpentError
from serpent.runtime.tensorrt_library import FLAVOURS, RTX, TRT, Flavour, installed_version, load, make_logger


@dataclass(frozen=True)
class HeaderVerdict:
    """What TensorRT says of a plan's header on this machine.

    Attributes:
        read_by: which TensorRT, with its version; "" where none is installed that reads headers.
        validity: "VALID", "SUBOPTIMAL" or "INVALID"; "" where nobody could judge, as on a machine without a GPU.
        reasons: what is wrong, in TensorRT's words.
        malformed: the file is no plan of this TensorRT at all.
    """

    read_by: str = ""
    validity: str = ""
    reasons: tuple[str, ...] = ()
    malformed: bool = False

    @property
    def sentence(self) -> str:
        if not self.validity:
            return f"no verdict{f' of {self.read_by}' if self.read_by else ''}: {'; '.join(self.reasons)}"
        why = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.validity} for this machine, says {self.read_by}{why}"


def read_header(path: Path, flavour_key: str | None = None) -> HeaderVerdict:
    """Ask TensorRT about the header of a plan; nothing of the plan is loaded or run.

    Args:
        path: the plan.
        flavour_key: "rtx" or "trt"; by default whichever is installed.
    """
    asked = [FLAVOURS[flavour_key]] if flavour_key in FLAVOURS else [RTX, TRT]
    flavour = next((kind for kind in asked if installed_version(kind) is not None), None)
    if flavour is None:
        return HeaderVerdict(reasons=(f"{asked[0].title} is not installed; {asked[0].install_command}",))
    try:
        return _ask(path, flavour)
    except SerpentError as error:
        return HeaderVerdict(reasons=(error.message,))


def _ask(path: Path, flavour: Flavour) -> HeaderVerdict:
    trt = load(flavour)
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    title = f"{flavour.title} {trt.__version__}"
    if not hasattr(runtime, "get_engine_validity"):
        return HeaderVerdict(reasons=(f"{title} does not read headers",))
    with path.open("rb") as stream:
        head = stream.read(runtime.engine_header_size)
    logger.sentence()  # not of this plan
    validity, diagnostics = runtime.get_engine_validity(head)
    names = trt.EngineInvalidityDiagnostics.__members__
    found = [name for name, member in names.items() if int(diagnostics) & int(member)]
    sentence = logger.sentence()
    said = [sentence] if sentence else []
    # Without a GPU it says "invalid" for no reason of the plan's.
    verdict = "" if validity.name == "INVALID" and not found else validity.name
    return HeaderVerdict(title, verdict, (*found, *said), "MALFORMED_ENGINE" in found)
