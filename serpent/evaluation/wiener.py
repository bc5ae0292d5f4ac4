"""Wiener filters: the best that a linear, shift-invariant filter of limited size can do.

A filter h that restores a target x from degraded pictures y,

    x_i(p) ~ sum over channels j and offsets d of h_ij(d) y_j(p - d),

with the least mean squared error solves the Wiener-Hopf equations, for all channels k and offsets e,

    E[x_i(p) y_k(p - e)] = sum over j and d of h_ij(d) E[y_j(p) y_k(p - e + d)].

The expectations come from power and cross spectra of training pictures (Welch's method: overlapping blocks under a
Hann window). Solving for a filter of limited size is better than cutting E[X conj(Y)] / E[|Y|^2] to that size: that
quotient reaches far, and what is cut off would have to be made good by the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.degradations.filters import reflected
from serpent.errors import ArgumentError
from serpent.evaluation.pairs import Pair
from serpent.padding import pad

BLOCK = 128
"""Side of the blocks that spectra are taken of, pixels; neighbours share half of it."""
REACH = 15
"""Largest offset of a filter along H and W, pixels."""
_RIDGE = 1e-6
"""Noise, relative to the degraded pictures' power, that is taken for granted: without any, as after pure
interpolation, the equations have no stable solution."""


@dataclass(frozen=True)
class Wiener:
    """A filter, called with a picture.

    Attributes:
        kernel: (3, 3, S, S) float64, S odd: what each colour of the result takes of each colour of the picture.
    """

    kernel: NDArray[np.float64]

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter a picture, reflected at its border.

        Args:
            picture: (H, W, 3) float32, of any size.

        Returns:
            (H, W, 3) float32, not clipped.
        """
        reach = self.kernel.shape[-1] // 2
        padded = reflected(picture, reach)
        size = padded.shape[:2]
        spectra = [np.fft.rfft2(padded[..., channel].astype(np.float64)) for channel in range(3)]
        height, width, _ = picture.shape
        inner = np.s_[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
        result = np.empty(picture.shape, np.float32)
        for channel, row in enumerate(self.kernel):
            total = sum(np.fft.rfft2(each, s=size) * spectrum for each, spectrum in zip(row, spectra, strict=True))
            result[..., channel] = np.fft.irfft2(np.asarray(total), s=size)[inner]
        return result


def fit_wiener(pairs: Iterable[Pair], *, reach: int = REACH) -> dict[str, Wiener]:
    """The best filters for training pairs.

    Args:
        pairs: of any size, at least one; not those that are to be measured.
        reach: largest offset, pixels, below half of :data:`BLOCK`.

    Returns:
        "wiener", one kernel for each colour alone, and "wiener-rgb", which also looks at the other two: noise differs
        between colours more than pictures do.

    Raises:
        ArgumentError: no pairs.
    """
    half = (BLOCK, BLOCK // 2 + 1)
    cross = np.zeros((3, 3, *half), np.complex128)  # of target and degraded
    power = np.zeros((3, 3, *half), np.complex128)  # of degraded and degraded
    count = 0
    for count, pair in enumerate(pairs, start=1):  # noqa: B007 (whether there was any)
        for target, degraded in _spectra(pair):
            cross += np.einsum("niyx,nkyx->ikyx", target, degraded.conj())
            power += np.einsum("njyx,nkyx->jkyx", degraded, degraded.conj())
    if not count:
        raise ArgumentError("there is no picture to fit a Wiener filter on")
    correlation, own = (np.fft.irfft2(each, s=(BLOCK, BLOCK)) for each in (cross, power))
    alone = _solve(_mean_of_colours(correlation), _mean_of_colours(own), reach)
    apart = np.einsum("ij,yx->ijyx", np.eye(3), alone[0, 0])
    return {"wiener": Wiener(apart), "wiener-rgb": Wiener(_solve(correlation, own, reach))}


def _solve(correlation: NDArray[Any], own: NDArray[Any], reach: int) -> NDArray[np.float64]:
    """The Wiener-Hopf equations for C channels: correlations (C, C, BLOCK, BLOCK) to a kernel (C, C, S, S)."""
    channels, side = len(own), 2 * reach + 1
    y, x = (each.ravel() - reach for each in np.indices((side, side)))  # the offsets
    differences = (y[:, None] - y) % BLOCK, (x[:, None] - x) % BLOCK
    # Rows (k, e), columns (j, d).
    matrix = own[:, :, *differences].transpose(1, 2, 0, 3).reshape(channels * side**2, -1)
    matrix[np.diag_indices_from(matrix)] += _RIDGE * own[0, 0, 0, 0] + np.finfo(np.float64).tiny
    known = correlation[:, :, y % BLOCK, x % BLOCK].reshape(channels, -1).T
    kernel = np.linalg.solve(matrix, known).T
    return np.asarray(kernel.reshape(channels, channels, side, side))


def _mean_of_colours(correlation: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.einsum("iiyx->yx", correlation)[None, None] / 3)


def _spectra(pair: Pair) -> Iterator[tuple[NDArray[np.complex128], NDArray[np.complex128]]]:
    """Of the target's and the degraded picture's blocks, row by row, each (n, 3, BLOCK, BLOCK / 2 + 1)."""
    height, width, _ = pair.target.shape
    both = [pad(each, max(height, BLOCK), max(width, BLOCK)) for each in (pair.target, pair.degraded)]
    hann = np.hanning(BLOCK + 2)[1:-1]
    window = np.outer(hann, hann)[..., None]  # float64, as everything after it: sums over thousands of blocks
    height, width, _ = both[0].shape
    for top in _starts(height):
        rows = [each[top : top + BLOCK] for each in both]
        target, degraded = (
            np.fft.rfft2(np.stack([row[:, left : left + BLOCK] * window for left in _starts(width)]), axes=(1, 2))
            for row in rows
        )
        yield target.transpose(0, 3, 1, 2), degraded.transpose(0, 3, 1, 2)


def _starts(side: int) -> list[int]:
    """Where blocks begin along a side: evenly, from one end to the other, at most half a block apart."""
    spare = side - BLOCK
    return [int(start) for start in np.linspace(0, spare, -(-spare // (BLOCK // 2)) + 1)]
