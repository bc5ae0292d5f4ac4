"""Many pictures in one run: what one of them meets is no matter of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips

from serpent.errors import OutOfMemoryError, PictureError, UsageError
from serpent.files import written_aside
from serpent.pictures import Encoding, Picture, read_picture, write_picture
from serpent.pictures.jobs import Job
from serpent.pictures.resize import new_size, resized
from serpent.runtime import batch
from serpent.runtime.batch import BatchOptions, Outcome, restore_many
from tests.fakes import FakeSession

PIXELS = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
DOUBLE = BatchOptions(Encoding(resize="200%"))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made = [Job(tmp_path / f"{name}.png", tmp_path / "out" / f"{name}.png") for name in "abc"]
    (tmp_path / "out").mkdir()
    for job in made:
        write_picture(job.source, PIXELS)
    return made


def restored(jobs: list[Job], options: BatchOptions) -> list[Outcome]:
    return list(restore_many([FakeSession()], jobs, options))


def check_only_the_middle_one_failed(outcomes: list[Outcome]) -> None:
    assert [outcome.error is not None for outcome in outcomes] == [False, True, False]
    for outcome in outcomes:
        assert outcome.job.target.exists() == (outcome.error is None)


def test_a_name_that_is_too_long_ends_its_picture_alone(jobs: list[Job]) -> None:
    jobs[1] = Job(jobs[1].source, jobs[1].target.with_name("n" * 252 + ".png"))
    with pytest.raises(OSError, match="File name too long"):
        jobs[1].target.exists()
    outcomes = restored(jobs, BatchOptions(skip_existing=True))
    assert [outcome.error is not None for outcome in outcomes] == [False, True, False]
    error = outcomes[1].error
    assert isinstance(error, PictureError)
    assert error.message == f"cannot restore {jobs[1].source}: File name too long"


@pytest.mark.parametrize("where", ["read_picture", "restore_picture", "write_picture"])
def test_memory_that_runs_out_ends_its_picture_alone(
    where: str, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    works, calls = getattr(batch, where), []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError
        return works(*arguments, **options)

    monkeypatch.setattr(batch, where, failing)
    outcomes = restored(jobs, BatchOptions())
    check_only_the_middle_one_failed(outcomes)
    assert isinstance(outcomes[1].error, OutOfMemoryError)
    assert outcomes[1].error.message == f"{jobs[1].source} needs more memory than there is"


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (pyvips.Error("out of\n memory"), PictureError, "cannot resize to 60x40 pixels: out of memory"),
        (MemoryError(), OutOfMemoryError, "resizing to 60x40 pixels needs more memory than there is"),
    ],
)
def test_what_libvips_refuses_to_resize_ends_its_picture_alone(
    raised: Exception, kind: type[Exception], message: str, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    resize, calls = pyvips.Image.resize, []

    def failing(image: pyvips.Image, *arguments: object, **options: object) -> object:
        calls.append(image)
        if len(calls) == 2:
            raise raised
        return resize(image, *arguments, **options)

    # Methods of libvips are looked up one by one; one of the class goes before.
    monkeypatch.setattr(pyvips.Image, "resize", failing, raising=False)
    outcomes = restored(jobs, DOUBLE)
    check_only_the_middle_one_failed(outcomes)
    assert isinstance(outcomes[1].error, kind)
    assert outcomes[1].error.message.startswith(message)
    assert read_picture(jobs[2].target).pixels.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("size", "shown"),
    [("60000x60000", "60000x60000 pixels, 3600"), ("20000x", "20000x13333 pixels"), ("9" * 400 + "%", "inf")],
)
def test_the_size_of_a_result_has_a_limit(size: str, shown: str) -> None:
    with pytest.raises(UsageError, match=rf"means {shown}.* million; the limit is 100 million\n.*--max-pixels"):
        resized(Picture(PIXELS), size, 100_000_000)
    assert new_size(Picture(PIXELS), "30000x10000") == (10000, 30000)  # 300 million, the usual limit
    with pytest.raises(UsageError, match="limit is 300 million"):
        new_size(Picture(PIXELS), "30001x10000")


def test_a_size_beyond_the_limit_is_refused_before_the_network_runs(jobs: list[Job]) -> None:
    write_picture(jobs[1].source, np.tile(PIXELS, (2, 2, 1)), overwrite=True)
    session = FakeSession()
    outcomes = list(restore_many([session], jobs, BatchOptions(Encoding(resize="200%", max_pixels=2400))))
    check_only_the_middle_one_failed(outcomes)
    assert len(session.shapes) == 2
    with pytest.raises(UsageError, match="means 120x80 pixels"):
        write_picture(jobs[1].target, np.tile(PIXELS, (2, 2, 1)), encoding=Encoding(resize="200%", max_pixels=2400))


def test_going_on_removes_what_an_ended_run_left(jobs: list[Job]) -> None:
    out = jobs[0].target.parent
    with written_aside(jobs[0].target) as aside:
        aside.write_bytes(b"half")
        left = aside.with_name(aside.name.replace("a.serpent-", "a.serpent-0"))  # what nobody holds a lock on
        left.write_bytes(b"half")
        restored(jobs, BatchOptions())
        assert (left.exists(), aside.exists()) == (True, True)
        outcomes = restored(jobs, BatchOptions(skip_existing=True))
        assert (left.exists(), aside.exists()) == (False, True)
    assert all(outcome.skipped for outcome in outcomes)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png"]


def test_a_job_that_comes_with_an_error_fails_with_it(jobs: list[Job], tmp_path: Path) -> None:
    error = PictureError("cannot read the folder")
    outcomes = restored([jobs[0], Job(tmp_path, tmp_path, error), jobs[2]], BatchOptions(skip_existing=True))
    assert [outcome.error for outcome in outcomes] == [None, error, None]
