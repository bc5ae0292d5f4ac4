from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serpent.errors import PictureError, UsageError
from serpent.pictures import Picture, read_picture, write_picture
from serpent.train import Recipe, photographs
from serpent.train.photographs import Photographs
from serpent.train.samples import Samples, batches
from training import make_pictures

RECIPE = Recipe(crop=16, task="denoise", seed=3)


def test_a_sample_depends_on_its_number_alone(tmp_path: Path) -> None:
    pictures = Photographs([make_pictures(tmp_path, 5)], least=16)
    forwards = [Samples(pictures, RECIPE)[number] for number in range(12)]
    backwards = Samples(pictures, RECIPE)
    for number in reversed(range(12)):
        for one, other in zip(forwards[number], backwards[number], strict=True):
            assert np.array_equal(one, other)
    assert not np.array_equal(forwards[0][0], Samples(pictures, Recipe(crop=16, task="denoise", seed=4))[0][0])


def test_an_epoch_takes_every_picture_once_and_each_in_another_order(tmp_path: Path) -> None:
    for level in range(6):
        write_picture(tmp_path / f"{level}.png", Picture(np.full((16, 16, 3), level / 5, np.float32)))
    samples = Samples(Photographs([tmp_path], least=16), RECIPE)
    order = [round(float(samples[number][1].mean()) * 5) for number in range(12)]
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert order[:6] != order[6:]


def test_workers_change_nothing(tmp_path: Path) -> None:
    samples = Samples(Photographs([make_pictures(tmp_path, 5)], least=16), RECIPE)
    groups = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    alone = list(batches(samples, iter(groups), 0))
    threads = list(batches(samples, iter(groups), 3))
    assert len(alone) == len(threads) == 5
    assert alone[0][0].shape == (2, 3, 16, 16)
    for one, other in zip(alone, threads, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_pictures_beyond_the_memory_are_read_again(tmp_path: Path) -> None:
    make_pictures(tmp_path, 4)
    all_kept, none_kept = (Photographs([tmp_path], least=16, memory=memory) for memory in (1 << 20, 0))
    assert len(all_kept) == 4
    for index in range(4):
        assert np.array_equal(all_kept[index], none_kept[index])


def test_no_more_than_a_few_pictures_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them would be in memory at once where they are decoded faster than they are taken in."""
    make_pictures(tmp_path, 20)
    decode, started, most = photographs._decode, itertools.count(1), 0
    latest = [0]

    def counted(path: Path) -> Any:
        latest[0] = next(started)
        return decode(path)

    def slow(taken: int, _total: int) -> None:
        nonlocal most
        time.sleep(0.02)
        most = max(most, latest[0] - taken)

    monkeypatch.setattr(photographs, "_decode", counted)
    assert len(Photographs([tmp_path], least=16, memory=0, on_read=slow)) == 20
    assert most <= 5


def test_deep_pictures_keep_their_depth(tmp_path: Path) -> None:
    fine = np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    write_picture(tmp_path / "fine.png", Picture(fine, bits=16))
    (picture,) = (Photographs([tmp_path], least=16)[0],)
    assert picture.dtype == np.float32
    assert np.array_equal(picture, read_picture(tmp_path / "fine.png").pixels)


def test_several_folders_keep_their_names_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_pictures(tmp_path / folder, 2)
    assert Photographs([tmp_path / "a", tmp_path / "b"], least=16).names == [
        "a/01.png",
        "a/more/00.png",
        "b/01.png",
        "b/more/00.png",
    ]


def test_every_unusable_picture_is_named_before_the_first_step(tmp_path: Path) -> None:
    make_pictures(tmp_path, 2)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "text.png").write_text("hello")
    write_picture(tmp_path / "small.png", Picture(np.zeros((20, 12, 3), np.float32)))
    with pytest.raises(PictureError) as caught:
        Photographs([tmp_path], least=16)
    message = caught.value.message
    assert message.startswith("3 picture(s) cannot be used:")
    assert all(name in message for name in ("broken.jpg", "text.png"))
    assert f"{tmp_path / 'small.png'} is 12x20, smaller than the crop of 16" in message


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        Photographs([tmp_path], least=16)
    with pytest.raises(PictureError, match="does not exist"):
        Photographs([tmp_path / "nowhere"], least=16)
