"""How close a picture is to its reference: PSNR and SSIM, in numpy alone.

Both are computed in float64 whatever the pictures' type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError

# Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity.
# IEEE Transactions on Image Processing 13(4), 2004, section III-C.
SSIM_WINDOW = 11
"""Side of the Gaussian window, pixels."""
SSIM_SIGMA = 1.5
"""Standard deviation of the Gaussian window, pixels."""
SSIM_K1 = 0.01
"""Weight of the constant that steadies the luminance term."""
SSIM_K2 = 0.03
"""Weight of the constant that steadies the contrast term."""


def psnr(reference: NDArray[Any], image: NDArray[Any], *, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in decibels.

    ``10 log10(data_range^2 / mean((reference - image)^2))``, the mean over every value of the arrays.

    Args:
        reference: any non-empty shape, any real dtype.
        image: the shape of ``reference``, any real dtype.
        data_range: largest minus smallest value a pixel can have (1.0 for [0, 1], 255 for 8 bits).

    Returns:
        Decibels; infinity where the arrays are equal.

    Raises:
        ArgumentError: shapes differ, an array is empty or complex, or ``data_range`` is not positive and finite.
    """
    _check(reference, image, data_range)
    difference = reference.astype(np.float64) - image.astype(np.float64)
    mean_square = float(np.mean(difference * difference))
    return math.inf if mean_square == 0.0 else 10.0 * math.log10(data_range**2 / mean_square)


def ssim(reference: NDArray[Any], image: NDArray[Any], *, data_range: float = 1.0) -> float:
    """Mean structural similarity (Wang et al. 2004) over a Gaussian window, per channel, then averaged.

    With window means m, variances v and covariance c of the two pictures a and b, and ``Ci = (Ki data_range)^2``::

        SSIM = (2 m_a m_b + C1) (2 c + C2) / ((m_a^2 + m_b^2 + C1) (v_a + v_b + C2))

    Windows that reach over the border are left out, as the paper's own code does.

    Args:
        reference: (H, W, C) or (B, H, W, C), H and W at least 11 pixels, any real dtype.
        image: the shape of ``reference``, any real dtype.
        data_range: largest minus smallest value a pixel can have (1.0 for [0, 1], 255 for 8 bits).

    Returns:
        The mean, at most 1, which equal pictures reach.

    Raises:
        ArgumentError: wrong rank, shapes that differ, a picture smaller than the window, a complex array, or
            ``data_range`` not positive and finite.
    """
    _check(reference, image, data_range)
    if reference.ndim not in (3, 4):
        raise ArgumentError(f"reference has shape {reference.shape}; expected (H, W, C) or (B, H, W, C)")
    height, width = reference.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise ArgumentError(f"pictures of {height}x{width} are smaller than the window of {SSIM_WINDOW} pixels")
    a, b = reference.astype(np.float64), image.astype(np.float64)
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a * mean_a
    variance_b = _window_mean(b * b) - mean_b * mean_b
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    contrast_structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * contrast_structure))


def _check(reference: NDArray[Any], image: NDArray[Any], data_range: float) -> None:
    if reference.shape != image.shape:
        raise ArgumentError(f"reference has shape {reference.shape}, image {image.shape}; expected the same")
    if reference.size == 0:
        raise ArgumentError(f"reference has shape {reference.shape}: there is no pixel in it")
    for name, array in (("reference", reference), ("image", image)):
        if np.iscomplexobj(array):
            raise ArgumentError(f"{name} has dtype {array.dtype}; expected a real one")
    if not (math.isfinite(data_range) and data_range > 0):
        raise ArgumentError(f"data_range is {data_range!r}; expected a positive, finite number")


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted mean of every whole window: (..., H, W, C) to (..., H - 10, W - 10, C)."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    rows = values.shape[-3] - SSIM_WINDOW + 1
    columns = values.shape[-2] - SSIM_WINDOW + 1
    # The Gaussian is separable: 11 + 11 shifted sums in place of 121.
    tall = sum(weight * values[..., i : i + rows, :, :] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * tall[..., :, j : j + columns, :] for j, weight in enumerate(weights)))
