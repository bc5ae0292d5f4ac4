"""The texts of a Triton repository: how to start the server, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serpent.manifest import Manifest

_IMAGES = "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/"

_START = """\
#!/bin/sh
# Starts Triton on this repository. Usage: ./start.sh IMAGE, or TRITON_IMAGE=IMAGE ./start.sh
set -eu
image=${{1:-${{TRITON_IMAGE:-}}}}
if [ -z "$image" ]; then
    echo "start.sh: no image is given; {wanted}" >&2
    echo "  ./start.sh IMAGE, NVIDIA's tritonserver:YY.MM-py3; {images} lists what each release has" >&2
    exit 2
fi
{check}here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
# f32 means f32: ONNX Runtime would round the factors of products to 10 bits (TF32), far beyond the certificate.
exec docker run --rm --gpus all -e NVIDIA_TF32_OVERRIDE=0 -p 8000:8000 -p 8001:8001 -p 8002:8002 \\
    -v "$here:/serpent:ro" "$image" \\
    tritonserver --model-repository=/serpent/model_repository{plugin}
"""


_CHECK = """\
# A plan runs with its own version of TensorRT alone; the image's packages say which it has.
found=$(docker run --rm --entrypoint dpkg-query "$image" -W -f '${{Version}}\\n' 'libnvinfer[0-9]*' | head -n 1)
case "$found" in
{version} | {version}-*) ;;
"") echo "start.sh: the packages of $image do not name its TensorRT; the plan needs {version}" >&2 ;;
*)
    echo "start.sh: $image has TensorRT $found; the plan needs {version}" >&2
    echo "  choose the image by {images}, or export again with that TensorRT" >&2
    exit 1
    ;;
esac
"""


def start_script(plugin: str, version: str) -> str:
    """The shell script, which starts the server in the image that it is given.

    Args:
        plugin: the library to load, "" for none.
        version: of TensorRT, which the image must have; "" where there is no plan.
    """
    wanted = f"the plan needs one with TensorRT {version}" if version else "any one with ONNX Runtime will do"
    check = _CHECK.format(version=version, images=_IMAGES) if version else ""
    flag = f' \\\n    --backend-config=tensorrt,plugins="/serpent/plugins/{plugin}"' if plugin else ""
    return _START.format(plugin=flag, wanted=wanted, check=check, images=_IMAGES)


def readme(
    manifest: Manifest, engine: Mapping[str, Any], plugin: str, models: Sequence[str], sums: Mapping[str, str]
) -> str:
    """What lies here, which server fits, and the digests.

    Args:
        manifest: of the export.
        engine: its entry for the plan, empty where there is none.
        plugin: the library to load, "" for none.
        models: names of the models.
        sums: SHA-256 by relative path.
    """
    profile = manifest.profile
    lines = [
        f"# {manifest.path.stem} for Triton",
        "",
        f"Task {manifest.task}, precision {manifest.precision}, weights {manifest.weights}, border {manifest.io}.",
        f"Accepts batch {profile.batch}, height {profile.height}, width {profile.width} (min:opt:max), sides",
        f"multiples of {profile.multiple}; the client pads and tiles.",
        "",
        "    ./start.sh IMAGE",
        "",
    ]
    if engine:
        version = engine["version"]
        lines += [
            f"IMAGE: NVIDIA's `tritonserver` image whose TensorRT is exactly {version}: a plan runs with its own",
            f"version alone. <{_IMAGES}>",
            "lists the version of each release. start.sh asks the image's packages and refuses another version.",
            f"The plan runs on {', '.join(engine.get('targets', []))}.",
            "",
        ]
        lines += (
            [
                f"The server is told to load `plugins/{plugin}` first (`--backend-config=tensorrt,plugins=...`):",
                "without it, TensorRT cannot read the plan. A library that does not load is an error in Triton's log,",
                "which then goes on without it.",
            ]
            if plugin
            else ["The plugin library was not built where this was exported: add it, and its flag, to start.sh."]
        )
    else:
        lines += ["IMAGE: any `tritonserver` image with ONNX Runtime."]
    lines += [
        "",
        "Models: " + ", ".join(f"`{name}`" for name in models) + ".",
        "The ONNX model needs no plugin: it computes the scan with standard operators, many times slower.",
        "",
        "| file | sha256 |",
        "|---|---|",
        *(f"| {name} | {digest} |" for name, digest in sums.items()),
        "",
    ]
    return "\n".join(lines)
