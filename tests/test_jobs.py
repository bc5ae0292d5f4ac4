"""Which pictures a run takes, and where their results go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serpent.errors import PictureError, UsageError
from serpent.pictures.jobs import Job, Targets, collect, pictures_below


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in ("b.png", "a.JPG", "deep/er/c.tif", "deep/d.gif", "notes.txt", ".hidden.png", ".cache/e.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(jobs: list[Job], root: Path) -> list[str]:
    return [job.source.relative_to(root).as_posix() for job in jobs]


def test_folders_give_all_pictures_below_them_in_order(tree: Path) -> None:
    assert names(collect([tree], Targets()), tree) == ["a.JPG", "b.png", "deep/d.gif", "deep/er/c.tif"]


def test_results_lie_beside_their_sources_in_their_format_where_it_can_be_written(tree: Path) -> None:
    targets = [job.target.relative_to(tree).as_posix() for job in collect([tree], Targets())]
    assert targets == ["a_restored.JPG", "b_restored.png", "deep/d_restored.png", "deep/er/c_restored.tif"]


def test_a_folder_of_results_keeps_the_tree(tree: Path, tmp_path: Path) -> None:
    jobs = collect([tree, tree / "b.png"], Targets(tmp_path / "out", suffix=""))
    assert [job.target.relative_to(tmp_path / "out").as_posix() for job in jobs] == [
        "a.JPG",
        "b.png",
        "deep/d.png",
        "deep/er/c.tif",
    ]


def test_earlier_results_and_the_folder_of_results_are_no_sources(tree: Path) -> None:
    for name in ("b_restored.png", "deep/d_restored.png", "b_restored_restored.png"):
        (tree / name).write_bytes(b"")
    assert names(collect([tree], Targets()), tree) == ["a.JPG", "b.png", "deep/d.gif", "deep/er/c.tif"]
    (tree / "out").mkdir()
    (tree / "out" / "x.png").write_bytes(b"")
    assert "out/x.png" not in names(collect([tree], Targets(tree / "out", suffix="")), tree)


def test_links_in_a_circle_end(tree: Path) -> None:
    (tree / "deep" / "again").symlink_to(tree, target_is_directory=True)
    assert names(collect([tree], Targets()), tree) == ["a.JPG", "b.png", "deep/d.gif", "deep/er/c.tif"]


def test_linked_folders_are_entered(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "link").symlink_to(tree / "deep", target_is_directory=True)
    assert names(collect([tmp_path / "album"], Targets()), tmp_path / "album") == ["link/d.gif", "link/er/c.tif"]


def test_two_names_of_one_file_give_two_results(tree: Path) -> None:
    (tree / "z.png").symlink_to(tree / "b.png")
    jobs = collect([tree / "b.png", tree / "z.png", tree / "b.png"], Targets())
    assert [job.target.name for job in jobs] == ["b_restored.png", "z_restored.png"]


def test_a_result_never_takes_the_place_of_a_picture_unasked(tree: Path) -> None:
    with pytest.raises(UsageError, match="--in-place"):
        collect([tree], Targets(suffix=""))
    with pytest.raises(UsageError, match="--in-place"):
        collect([tree], Targets(tree, suffix=""))
    jobs = collect([tree / "b.png"], Targets(suffix="", in_place=True))
    assert jobs == [Job(tree / "b.png", tree / "b.png")]
    (tree / "b_restored.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"b_restored\.png, a result, is one of the pictures"):
        collect([tree / "b.png", tree / "b_restored.png"], Targets())


def test_results_are_left_alone_where_that_is_asked_for(tree: Path) -> None:
    for name in ("b_restored.png", "b_restored_restored.png"):
        (tree / name).write_bytes(b"")
    named = [tree / "b.png", tree / "b_restored.png", tree / "b_restored_restored.png", tree / "deep"]
    with pytest.raises(UsageError, match=r"(?s)b_restored\.png, a result, .*\n  add --skip-existing"):
        collect(named, Targets())
    assert names(collect(named, Targets(), leave_results=True), tree) == ["b.png", "deep/d.gif", "deep/er/c.tif"]
    (tree / "out").mkdir()
    (tree / "out" / "b.png").write_bytes(b"")
    named = [tree / "b.png", tree / "out" / "b.png"]  # as a pattern finds them: **/b.png
    targets = Targets(tree / "out", suffix="")
    assert names(collect(named, targets, dict.fromkeys(named, tree), leave_results=True), tree) == ["b.png"]


def test_a_picture_of_several_names_and_one_result_is_restored_once(tree: Path, tmp_path: Path) -> None:
    (tree / "z.png").symlink_to(tree / "b.png")
    assert names(collect([tree / "z.png", tree], Targets(suffix="", in_place=True)), tree) == [
        "z.png",
        "a.JPG",
        "deep/d.gif",
        "deep/er/c.tif",
    ]
    for targets in (Targets(), Targets(tmp_path / "out", suffix="")):
        assert len(collect([tree / "b.png", tree / "deep" / ".." / "b.png"], targets)) == 1


def test_a_name_like_a_results_is_a_source_where_nothing_has_that_result(tree: Path) -> None:
    (tree / "b.png").rename(tree / "b_restored.png")
    (tree / "b_restored.tif").write_bytes(b"")
    (job, other) = collect([tree], Targets())[1:3]
    assert (job.source, job.target) == (tree / "b_restored.png", tree / "b_restored_restored.png")
    assert other.source == tree / "b_restored.tif"


def test_two_results_of_one_name_are_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "deep" / "d.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"deep/d\.gif and .*deep/d\.png would both become .*\n  rename one"):
        collect([tree], Targets(tmp_path / "out", suffix=""))


def relative_targets(jobs: list[Job], out: Path) -> list[str]:
    return [job.target.relative_to(out).as_posix() for job in jobs]


def test_files_of_one_name_keep_their_tree_below_the_common_folder(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "deep" / "b.png").write_bytes(b"")
    targets = Targets(tmp_path / "out", suffix="")
    assert relative_targets(collect([tree / "b.png", tree / "deep/er/c.tif"], targets), tmp_path / "out") == [
        "b.png",
        "c.tif",
    ]
    inputs = [tree / "b.png", tree / "deep/b.png", tree / "deep/er/c.tif"]
    expected = ["b.png", "deep/b.png", "deep/er/c.tif"]
    assert relative_targets(collect(inputs, targets), tmp_path / "out") == expected
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # relative, absolute and roundabout names may stand together
    inputs = [Path("../in/b.png"), tree / "deep/b.png", Path("../in/deep/../deep/er/c.tif")]
    assert relative_targets(collect(inputs, targets), tmp_path / "out") == expected


def test_folders_with_files_of_one_name_do_too(tree: Path, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tree / "deep" / folder).mkdir()
        (tree / "deep" / folder / "1.png").write_bytes(b"")
    jobs = collect([tree / "deep" / "x", tree / "deep" / "y"], Targets(tmp_path / "out", suffix=""))
    assert relative_targets(jobs, tmp_path / "out") == ["x/1.png", "y/1.png"]


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to read a folder; for root, a mode would not."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_folder_that_cannot_be_read_is_no_silence(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(tree / "deep", monkeypatch)
    (tree / "deep.png").write_bytes(b"")
    jobs = collect([tree], Targets())
    assert names(jobs, tree) == ["a.JPG", "b.png", "deep.png", "deep"]
    assert [str(job.error) for job in jobs if job.error] == [
        f"cannot read the folder {tree / 'deep'}: Permission denied"
    ]
    with pytest.raises(PictureError, match=r"cannot read the folder .*deep: Permission denied"):
        list(pictures_below(tree, Targets()))
    refuse(tree, monkeypatch)
    assert [job.error is not None for job in collect([tree], Targets())] == [True]


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        collect([tmp_path], Targets())


def test_pipes_in_a_folder_are_left_alone_and_dangling_links_are_named(tree: Path) -> None:
    os.mkfifo(tree / "pipe.png")
    (tree / "gone.png").symlink_to(tree / "nowhere.png")
    names = {job.source.name for job in collect([tree], Targets())}
    assert "gone.png" in names
    assert "pipe.png" not in names
    assert [job.source.name for job in collect([tree / "pipe.png"], Targets())] == ["pipe.png"]  # asked for by name


def test_any_file_name_will_do(tmp_path: Path) -> None:
    odd = [b"two words.png", b"new\nline.png", b"\xff\xfe.png", b"[x].png", b"-dash.png"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert {os.fsencode(job.source.name) for job in collect([tmp_path], Targets())} == set(odd)
