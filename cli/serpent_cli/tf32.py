"""The commands that run a model compute f32 as f32."""

from __future__ import annotations

import os


def keep_f32() -> None:
    """Have CUDA's libraries compute f32 as f32 in this process, unless its environment says otherwise.

    By default PyTorch's convolutions and ONNX Runtime round the factors of products to 10 bits (TF32). To be called
    before CUDA is loaded, and by programs of our own alone: a library may not decide that for its caller.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
