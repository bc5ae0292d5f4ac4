"""``python -m serpent``: where the installed package keeps what other programs build against.

``--cmake-dir`` prints the folder for CMake's ``find_package(serpent)``. The commands are ``serpent`` and its kin.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serpent.errors import NativeLibraryError, SerpentError
from serpent.native import installed_files

_CONFIG = "serpentConfig.cmake"


def cmake_dir() -> Path:
    """The folder of serpentConfig.cmake; its headers and libraries are found from there.

    Raises:
        NativeLibraryError: the package was installed without its native libraries, or not at all.
    """
    package = Path(__file__).resolve().parent
    candidates = [package / "lib" / "cmake" / "serpent" / _CONFIG, *installed_files(_CONFIG)]
    for path in candidates:
        if path.is_file():
            return path.parent
    sought = ", ".join(str(path) for path in candidates)
    raise NativeLibraryError(
        f"{_CONFIG} was not found; sought {sought}",
        hint="pip install . (without -C wheel.cmake=false), or cmake --install a build of your own",
    )


def main() -> int:
    """Answer one question; the exit status is 0 where there is an answer."""
    parser = argparse.ArgumentParser(prog="python -m serpent", description="Where the native package lies.")
    parser.add_argument("--cmake-dir", action="store_true", required=True, help="the folder for serpent_DIR")
    parser.parse_args()
    try:
        sys.stdout.write(f"{cmake_dir()}\n")
    except SerpentError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
