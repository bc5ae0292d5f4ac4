"""Plans through the runtime's own interface: on a stand-in over host memory and, where there is a GPU, over CUDA."""

from __future__ import annotations

import copy
import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

pytest.importorskip("numpy", reason="plans need numpy, which is not installed")

import numpy as np

from serpent.errors import ArgumentError, EngineError, ModelFileError, SerpentError
from serpent.runtime.device_tensor import DeviceTensor
from serpent.runtime.streaming import in_order
from serpent.runtime.tensorrt_runner import PlanRunner
from serpent.shapes import Range, ShapeProfile
from standin_device import HostDevice
from standin_plan import StandInEngine, agrees, picture

PROFILE = ShapeProfile(Range(1, 1, 2), Range(8, 16, 64), Range(8, 16, 64), 8)
SIZE = 4 * 3 * 16 * 16  # bytes of a picture of 16x16
Opener = Callable[..., PlanRunner]


@pytest.fixture
def engine(machine: Any) -> StandInEngine:
    return StandInEngine(machine, PROFILE)


@pytest.fixture
def runner(machine: Any, engine: StandInEngine) -> Any:
    """Open a runner; all are closed at the end, and on the host must have freed everything."""
    opened: list[PlanRunner] = []

    def start(*, contexts: int = 2, cuda_graphs: bool = False, profile: ShapeProfile = PROFILE) -> PlanRunner:
        made = PlanRunner(
            engine,
            machine,
            name="a.plan",
            profile=profile,
            io="f32-nchw",
            contexts=contexts,
            cuda_graphs=cuda_graphs,
            free_before=machine.free_bytes(),
        )
        opened.append(made)
        return made

    yield start
    for made in opened:
        made.close()
    assert engine.closed == bool(opened)
    if isinstance(machine, HostDevice):
        assert {kind: left for kind, left in machine.alive.items() if left} == {}


def on_device(machine: Any, image: Any) -> Any:
    """The picture as somebody's GPU tensor."""
    if not isinstance(machine, HostDevice):
        return torch.from_numpy(image).cuda()
    tensor = DeviceTensor(machine, image.shape, str(image.dtype))
    _bytes_at(tensor.address, image.nbytes)[:] = image.tobytes()
    tensor.written_on(0)
    return tensor


def on_host(machine: Any, tensor: Any) -> Any:
    if not isinstance(machine, HostDevice):
        return torch.from_dlpack(tensor).cpu().numpy()
    tensor.synchronize()
    size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
    return np.frombuffer(bytes(_bytes_at(tensor.address, size)), tensor.dtype).reshape(tensor.shape)


def part(memory: DeviceTensor, offset: int) -> DeviceTensor:
    """The picture of 16x16 that begins ``offset`` bytes into a larger tensor, which owns it."""
    found = copy.copy(memory)
    found.shape, found.address = (1, 3, 16, 16), memory.address + offset
    return found


def _bytes_at(address: int, size: int) -> Any:
    return (ctypes.c_char * size).from_address(address)


def test_eight_threads_share_two_contexts_and_each_gets_its_own_result(runner: Opener, engine: StandInEngine) -> None:
    plan = runner(contexts=2)
    sizes = [(8, 8), (16, 24), (24, 16), (64, 64)]

    def work(thread: int) -> bool:
        images = [picture(100 * thread + i, *sizes[(thread + i) % 4], batch=1 + i % 2) for i in range(12)]
        return all(agrees(plan.run(image), image) for image in images)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))
    assert len(engine.contexts) == 2
    assert engine.overlaps == 0


@pytest.mark.parametrize("written", [(1, 3, 32, 16), (1, 3, 16, 8), (2, 3, 16, 16)])
def test_a_plan_that_writes_another_shape_than_its_input_is_not_run(
    runner: Opener, engine: StandInEngine, machine: Any, written: tuple[int, ...]
) -> None:
    plan = runner(contexts=1)
    engine.written = written
    for run in (plan.run, lambda image: plan.run_on_device(on_device(machine, image))):
        with pytest.raises(EngineError, match=r"a\.plan: the plan would write a result of shape"):
            run(picture(0))
    engine.written = None
    assert agrees(plan.run(picture(0)), picture(0))
    assert sum(context.enqueues for context in engine.contexts) == 1


def test_whoever_finds_no_context_free_waits(runner: Opener, engine: StandInEngine, machine: Any) -> None:
    plan = runner(contexts=1)
    entered, leave = threading.Event(), threading.Event()
    free_bytes, synchronize = machine.free_bytes, machine.synchronize

    def slow(stream: int) -> None:
        entered.set()
        assert leave.wait(30)
        synchronize(stream)

    machine.synchronize = slow
    first, second = picture(1), picture(2)
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(plan.run, first)
        assert entered.wait(30)
        two = threads.submit(plan.run, second)
        time.sleep(0.05)
        assert not two.done()
        assert sum(context.enqueues for context in engine.contexts) == 1
        leave.set()
        assert agrees(one.result(30), first)
        assert agrees(two.result(30), second)
    machine.synchronize, machine.free_bytes = synchronize, free_bytes
    assert len(engine.contexts) == 1


def test_closing_waits_for_those_at_work_and_refuses_those_who_wait(
    runner: Opener, engine: StandInEngine, machine: Any
) -> None:
    plan = runner(contexts=1)
    entered, leave = threading.Event(), threading.Event()
    synchronize = machine.synchronize

    def slow(stream: int) -> None:
        entered.set()
        assert leave.wait(30)
        synchronize(stream)

    machine.synchronize = slow
    image = picture(1)
    with ThreadPoolExecutor(3) as threads:
        working = threads.submit(plan.run, image)
        assert entered.wait(30)
        waiting = threads.submit(plan.run, image)
        closing = threads.submit(plan.close)
        with pytest.raises(SerpentError, match=r"the session of a\.plan is closed\n  open it again"):
            waiting.result(30)
        assert not closing.done()
        assert not engine.closed
        leave.set()
        assert agrees(working.result(30), image)
        closing.result(30)
    assert engine.closed
    machine.synchronize = synchronize
    with pytest.raises(SerpentError, match="is closed"):
        plan.run(image)
    plan.close()  # again is fine


def test_shapes_change_from_run_to_run(runner: Opener) -> None:
    plan = runner(contexts=1, cuda_graphs=True)
    for seed, sizes in enumerate([(8, 8), (64, 64), (8, 8), (8, 64), (64, 8), (64, 8), (64, 8), (16, 16)]):
        image = picture(seed, *sizes, batch=1 + seed % 2)
        assert agrees(plan.run(image), image), sizes


def test_a_context_of_the_same_shape_is_preferred(runner: Opener, engine: StandInEngine, machine: Any) -> None:
    plan = runner(contexts=2)
    machine_sync = machine.synchronize
    both = threading.Barrier(2, timeout=30)

    def together(stream: int) -> None:
        both.wait()
        machine_sync(stream)

    machine.synchronize = together
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(plan.run, [picture(1, 8, 8), picture(2, 64, 64)]))
    machine.synchronize = machine_sync
    shapes = {context.shape for context in engine.contexts}
    for _ in range(3):
        for sizes in ((8, 8), (64, 64)):
            plan.run(picture(3, *sizes))
    assert {context.shape for context in engine.contexts} == shapes
    assert sorted(context.enqueues for context in engine.contexts) == [4, 4]


def test_a_run_is_captured_the_second_time_and_replayed_from_then_on(runner: Opener, engine: StandInEngine) -> None:
    plan = runner(contexts=1, cuda_graphs=True)
    for seed in range(6):
        image = picture(seed)
        assert agrees(plan.run(image), image)
    assert engine.contexts[0].enqueues == 2  # as it is, and into the graph
    wider = picture(9, 16, 24)
    assert agrees(plan.run(wider), wider)
    assert engine.contexts[0].enqueues == 3


def test_a_flavour_that_captures_by_itself_is_left_alone(
    runner: Opener, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "captures_itself", True)
    plan = runner(contexts=1, cuda_graphs=True)
    for seed in range(4):
        assert agrees(plan.run(picture(seed)), picture(seed))
    assert engine.contexts[0].enqueues == 4


OUTSIDE = [
    ((1, 3, 72, 16), "height above"),
    ((1, 3, 16, 72), "width above"),
    ((3, 3, 16, 16), "batch above"),
    ((1, 3, 0, 16), "nothing"),
    ((1, 3, 12, 16), "no multiple"),
]


@pytest.mark.parametrize("shape", [row[0] for row in OUTSIDE], ids=[row[1] for row in OUTSIDE])
def test_a_shape_outside_the_profile_is_answered_with_the_profile(
    runner: Opener, machine: Any, shape: tuple[int, ...]
) -> None:
    plan = runner()
    says = r"outside the profile of a\.plan: batch 1:1:2, height 8:16:64, width 8:16:64 .*multiples of 8"
    with pytest.raises(ArgumentError, match=says):
        plan.run(np.zeros(shape, np.float32))
    with pytest.raises(ArgumentError, match=says):
        plan.run_on_device(on_device(machine, np.zeros(shape, np.float32)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 3, 16, 16), np.float64), r"float64\(1, 3, 16, 16\); expected float32 \(B, 3, H, W\)"),
        (np.zeros((3, 16, 16), np.float32), r"float32\(3, 16, 16\)"),
        (np.zeros((1, 16, 16, 3), np.float32), r"float32\(1, 16, 16, 3\)"),
    ],
)
def test_other_arrays_are_refused(runner: Opener, image: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        runner().run(image)


def test_gpu_tensors_go_in_and_out_without_a_copy(runner: Opener, machine: Any) -> None:
    plan = runner(contexts=1)
    images = [picture(seed, 16, 8 * (1 + seed % 3)) for seed in range(6)]
    sources = [on_device(machine, image) for image in images]
    stream = machine.create_stream()
    results = [plan.run_on_device(source, stream=stream) for source in sources]
    for image, result in zip(images, results, strict=True):
        assert agrees(on_host(machine, result), image)
    out = on_device(machine, np.zeros_like(images[0]))
    assert plan.run_on_device(sources[0], out=out, stream=stream) is out
    machine.synchronize(stream)
    if isinstance(machine, HostDevice):
        out.written_on(stream)
        assert not any(name.endswith("pinned") for name, _ in machine.log)  # nothing passed through the host
    assert agrees(on_host(machine, out), images[0])
    machine.destroy_stream(stream)


def test_runs_on_two_streams_wait_for_each_other_in_one_context(
    runner: Opener, engine: StandInEngine, machine: Any
) -> None:
    plan = runner(contexts=1, cuda_graphs=True)
    engine.delay = 0.01
    streams = [machine.create_stream() for _ in range(2)]
    image = picture(1)
    source = on_device(machine, image)
    outs = [on_device(machine, np.zeros_like(image)) for _ in range(2)]
    for turn in range(8):
        plan.run_on_device(source, out=outs[turn % 2], stream=streams[turn % 2])
    plan.run_on_device(on_device(machine, picture(2, 64, 64)), stream=streams[0])
    assert agrees(plan.run(image), image)
    for stream in streams:
        machine.synchronize(stream)
        machine.destroy_stream(stream)
    for out in outs:
        if isinstance(machine, HostDevice):
            out.written_on(0)
        assert agrees(on_host(machine, out), image)
    assert engine.overlaps == 0


def test_tensors_that_do_not_fit_are_refused(runner: Opener, machine: Any) -> None:
    plan = runner()
    image = picture(1)
    source = on_device(machine, image)
    with pytest.raises(ArgumentError, match=r"image is float16\(1, 3, 16, 16\); the plan \(f32-nchw\) takes float32"):
        plan.run_on_device(on_device(machine, image.astype(np.float16)))
    with pytest.raises(ArgumentError, match="image lies in host memory"):
        plan.run_on_device(torch.from_numpy(image))
    with pytest.raises(ArgumentError, match="image is a list; expected a GPU tensor"):
        plan.run_on_device([1.0])
    with pytest.raises(ArgumentError, match=r"out has shape \(1, 3, 16, 24\); expected that of image"):
        plan.run_on_device(source, out=on_device(machine, picture(1, 16, 24)))
    with pytest.raises(ArgumentError, match="stream is 'fast'; expected a CUDA stream"):
        plan.run_on_device(source, stream="fast")


@pytest.mark.parametrize("apart", [0, 4, -4, SIZE - 4, 4 - SIZE])
def test_a_result_over_its_own_image_is_refused(
    runner: Opener, engine: StandInEngine, machine: Any, apart: int
) -> None:
    plan = runner()
    memory = DeviceTensor(machine, (2, 3, 16, 16), "float32")
    memory.written_on(0)
    lower, upper = part(memory, 0), part(memory, abs(apart))
    image, out = (lower, upper) if apart >= 0 else (upper, lower)
    with pytest.raises(ArgumentError, match=r"out, at 0x\w+, overlaps image, at 0x\w+: .*\n  give a tensor"):
        plan.run_on_device(image, out=out)
    assert engine.contexts[0].enqueues == 0
    plan.run_on_device(lower, out=part(memory, SIZE))  # side by side is fine
    assert engine.contexts[0].enqueues == 1
    machine.synchronize(0)


def test_pictures_of_a_stream_come_back_in_order(runner: Opener, engine: StandInEngine) -> None:
    plan = runner(contexts=2)
    engine.delay = 0.002
    images = [picture(seed, 8 * (1 + seed % 4), 64 if seed % 3 == 0 else 8) for seed in range(24)]
    taken: list[int] = []

    def source() -> Any:
        for index, image in enumerate(images):
            taken.append(index)
            yield image

    done = 0
    for restored in in_order(plan.run, source(), workers=2):
        assert agrees(restored, images[done])
        done += 1
        assert len(taken) <= done + 2  # read no further ahead than there are contexts
    assert done == len(images)


def test_a_bad_picture_of_a_stream_is_reported_in_its_place(runner: Opener) -> None:
    plan = runner(contexts=2)
    images = [picture(0), picture(1), np.zeros((1, 3, 9, 9), np.float32), picture(3)]
    restored = in_order(plan.run, images, workers=2)
    assert agrees(next(restored), images[0])
    assert agrees(next(restored), images[1])
    with pytest.raises(ArgumentError, match="outside the profile"):
        next(restored)
    assert agrees(plan.run(images[3]), images[3])


def test_a_stream_that_is_left_early_leaves_the_plan_usable(runner: Opener) -> None:
    plan = runner(contexts=2)
    restored = in_order(plan.run, (picture(seed) for seed in range(100)), workers=2)
    next(restored)
    restored.close()  # type: ignore[attr-defined]
    assert agrees(plan.run(picture(1)), picture(1))


def test_a_plan_with_other_tensors_or_shapes_is_refused_and_freed(runner: Opener, engine: StandInEngine) -> None:
    other = ShapeProfile(PROFILE.batch, Range(8, 16, 72), PROFILE.width, 8)
    with pytest.raises(
        ModelFileError, match=r"takes shapes from \(1, 3, 8, 8\) to \(2, 3, 64, 64\); its manifest .* 72"
    ):
        runner(profile=other)
    assert engine.closed
    engine.closed = False
    engine.dtypes = {"image": "float16", "restored": "float32"}
    with pytest.raises(
        ModelFileError, match="has the tensors image float16, restored float32; expected image and rest"
    ):
        runner()
    assert engine.closed
    engine.closed = False


def test_too_little_memory_is_one_sentence(runner: Opener, engine: StandInEngine) -> None:
    engine.context_bytes = 2**50
    with pytest.raises(
        EngineError, match=r"a\.plan cannot run: an execution context needs 1073741824 MiB, and cuda:0 has"
    ):
        runner()
    assert engine.closed
    engine.closed = False
