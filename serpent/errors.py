"""The project's one error tree.

Every error a user can cause derives from :class:`SerpentError`; the command line prints it as one
message without a traceback and leaves with ``exit_code``. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class SerpentError(Exception):
    """An error with a message for the user and, where one exists, the next command to type.

    Args:
        message: what is wrong, where, and the offending value, as one sentence.
        hint: the next command or change that would work.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n  {hint}")
        self.message = message
        self.hint = hint


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that an error went through, before a generator of ``contextlib`` replaces it by another.

    From Python 3.12 on the frame of that generator and the error refer to each other. The arrays of the failed run,
    GPU memory among them, would stay until the garbage collector comes by: too late for a run in smaller tiles.
    """
    error.__traceback__ = None


class UsageError(SerpentError, ValueError):
    """A value the caller chose is not acceptable (command-line exit code 2)."""

    exit_code = 2


class ArgumentError(SerpentError, ValueError):
    """An array or tensor has the wrong rank, shape, dtype, device or layout."""


class MissingExtraError(SerpentError, ImportError):
    """An optional dependency is not installed; the hint names the extra that brings it."""


class NativeLibraryError(SerpentError):
    """The native library is missing, has another ABI, or refused a call."""


class CheckpointError(SerpentError):
    """A checkpoint is missing, truncated, foreign, or does not fit the network."""


class ModelFileError(SerpentError):
    """An ONNX file, plan or manifest is missing, damaged, foreign, or does not match its digest."""


class PictureError(SerpentError):
    """A picture cannot be read or written."""


class ParityError(SerpentError):
    """An exported file misses its numeric bound, or cannot be certified at all."""


class EngineError(SerpentError):
    """An engine cannot be built, or cannot run on this machine."""


class OutOfMemoryError(SerpentError):
    """A run needs more memory than there is; a smaller one may fit."""
