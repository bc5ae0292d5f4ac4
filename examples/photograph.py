"""Write a photograph to try things with.

The picture comes with scikit-image (the portrait of the astronaut Eileen Collins, NASA, public domain);
nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageOps
from skimage import data

SIZE = (400, 300)  # pixels, width and height; larger than 256, so that a network exported for 256 works in tiles


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description="Write a photograph.")
    parser.add_argument("output", type=Path, help="where it goes")
    photograph = ImageOps.fit(Image.fromarray(data.astronaut()), SIZE, centering=(0.5, 0.0))
    photograph.save(parser.parse_args().output)


if __name__ == "__main__":
    main()
