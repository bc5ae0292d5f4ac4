"""``serpent-eval``: what it says and writes, and what it refuses before it loads the model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exported import Exported
from serpent.errors import SerpentError, UsageError
from serpent.evaluation import Pairs, evaluate, fit_wiener
from serpent.evaluation.report import summarise, write_rows
from serpent.evaluation.scores import Evaluation, Row, Scores
from serpent.evaluation.sheet import CELL, ContactSheet
from serpent_cli.evaluation import evaluate as evaluation
from serpent_cli.main import run_eval
from tests.fakes import FakeSession
from tests.photographs import photo, saved

NAMES = ("a.png", "b.png", "b/c.png", "d.png", "e.png", "f.png", "g.png", "h.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("data"), *NAMES)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession(notes=("a remark of the session",))
    monkeypatch.setattr("serpent.evaluation.restorers.open_session", lambda *_, **__: fake)
    return fake


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        given = list(map(str, arguments))
        given += [] if "--wiener-from" in given else ["--no-wiener"]
        monkeypatch.setattr(sys, "argv", ["serpent-eval", *given])
        with pytest.raises(SystemExit) as leaving:
            run_eval()
        return int(leaving.value.code or 0)

    return run


def negative(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1 - picture


def test_figures_are_those_of_the_library(
    data: Path,
    session: FakeSession,
    leave: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = saved(tmp_path / "training", "x.png", "y.png", height=90, width=150)
    arguments = ["model.onnx", data, "--crop", 40, "--border", 3, "--seed", 9, "--limit", 7]
    arguments += ["--wiener-from", training, "--out", tmp_path / "out", "--json"]
    assert leave(*arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    pairs = Pairs(data, "deblur", 9, 40, 7)
    expected = evaluate(negative, pairs, floors=fit_wiener(Pairs(training, "deblur", 9)), border=3)
    figures = summarise(expected)
    assert {key: summary[key] for key in figures if key != "seconds"} == {
        key: value for key, value in figures.items() if key != "seconds"
    }
    assert summary["degraded_sha256"] == expected.degraded_sha256
    assert (summary["data_range"], summary["border"], summary["crop"], summary["seed"]) == (1.0, 3, 40, 9)
    assert (summary["backend"], summary["weights"], summary["wiener_pictures"]) == ("onnxruntime", "untrained", 2)
    assert summary["notes"] == ["a remark of the session", "the weights of this model are untrained"]
    assert session.closed
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pictures.csv", "sheet.png", "summary.json"]
    with (tmp_path / "out" / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(NAMES[:7])
    for row, own in zip(rows, expected.rows, strict=True):
        assert (row["height"], row["width"]) == ("40", "40")
        assert float(row["seconds"]) >= 0
        for method, scores in own.scores.items():
            assert row[f"{method}_psnr"] == f"{scores.psnr:.4f}"
            assert row[f"{method}_ssim"] == f"{scores.ssim:.6f}"
    assert list(rows[0]) == [
        "name", "height", "width", "degraded_psnr", "degraded_ssim", "wiener_psnr", "wiener_ssim",
        "wiener-rgb_psnr", "wiener-rgb_ssim", "model_psnr", "model_ssim", "seconds",
    ]  # fmt: skip


@pytest.mark.usefixtures("session")
def test_what_a_person_reads(data: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("model.onnx", data, "--task", "denoise", "--crop", 40) == 0
    output = capsys.readouterr().out
    found = evaluate(negative, Pairs(data, "denoise", crop=40))
    assert f"8 pictures of {data}, centre crops of 40x40; denoise, seed 0" in output
    assert f"sha256 {found.degraded_sha256}" in output
    assert "data range 1.0, border 0 pixels; results as floats, clipped to [0, 1]" in output
    degraded, model = found.mean("degraded"), found.mean("model")
    (line,) = [each for each in output.splitlines() if each.startswith("model ")]
    assert line.split() == [
        "model", f"{model.psnr:.3f}", f"{model.psnr - degraded.psnr:+.2f}", f"{model.ssim:.4f}",
    ]  # fmt: skip
    assert "note: the model was trained for 'deblur', and is measured on 'denoise'" in output
    assert "wiener " not in output
    assert "LPIPS" not in output


@pytest.mark.usefixtures("session")
def test_two_runs_agree_but_for_the_time(
    data: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for seed in (0, 0, 1):
        assert leave("model.onnx", data, "--limit", 2, "--seed", seed, "--json") == 0
        outputs.append(json.loads(capsys.readouterr().out) | {"seconds": None})
    assert outputs[0] == outputs[1]
    assert outputs[0]["degraded_sha256"] != outputs[2]["degraded_sha256"]


def test_the_self_ensemble_runs_eight_times(data: Path, session: FakeSession, leave: Callable[..., int]) -> None:
    assert leave("model.onnx", data, "--limit", 1, "--crop", 48, "--tta") == 0
    assert len(session.shapes) == 8


def test_a_checkpoint_of_serpent(
    data: Path, checkpoint: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(checkpoint, data, "--limit", 2, "--crop", 32, "--device", "cpu", "--threads", 1, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["backend"], summary["device"], summary["precision"]) == ("torch", "cpu", "fp32")

    import torch

    import serpent

    model = serpent.load_model(checkpoint)

    def restore(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

    expected = evaluate(restore, Pairs(data, "deblur", 0, 32, 2))
    assert summary["means"]["model"]["psnr"] == pytest.approx(expected.mean("model").psnr, abs=1e-3)


def test_an_export_is_measured_on_the_pictures_of_its_checkpoint(
    exported: Exported, tmp_path: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    data = saved(tmp_path, "a.png", height=70, width=80)
    found = []
    for model in (exported.checkpoint, exported.onnx):
        assert leave(model, data, "--task", "denoise", "--crop", 64, "--device", "cpu", "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [each["backend"] for each in found] == ["torch", "onnxruntime"]
    assert found[0]["degraded_sha256"] == found[1]["degraded_sha256"]
    assert found[0]["means"]["degraded"] == found[1]["means"]["degraded"]
    # What an export may cost at most.
    assert found[0]["means"]["model"]["psnr"] == pytest.approx(found[1]["means"]["model"]["psnr"], abs=0.02)


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("serpent.evaluation.restorers.open_session", refuse)


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize(
    ("options", "problem"), [([], "are both missing"), (["--no-wiener", "--wiener-from", "x"], "contradict each other")]
)
def test_the_floor_is_left_out_on_purpose_only(data: Path, options: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=f"--wiener-from and --no-wiener {problem}"):
        evaluation.main(["model.onnx", str(data), *options], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("{here}/absent", 2, "absent does not exist; expected a folder"),
        ("{here}/empty", 2, "empty holds no picture that can be read"),
        ("{here}/bad", 1, "broken.png is no picture in a known format"),
        ("{data} --crop 61", 1, "a.png has 70x60 pixels, smaller than the crop of 61"),
        ("{data} --crop 16 --border 3", 2, "a crop of 16 pixels is too small; expected at least 17"),
        ("{data} --border 25", 1, "a.png has 70x60 pixels, fewer than 61 on a side"),
        ("{data} --task blur", 2, "unknown task 'blur'; known tasks are deblur"),
        ("{data} --wiener-from {data}", 2, "also lie in"),
        ("{data}/b --wiener-from {data}", 2, "1 of 1 pictures of"),
        ("{data} --wiener-from {here}/bad", 1, "broken.png is no picture"),
        ("{data} --lpips-weights {here}/absent.safetensors", 1, "the LPIPS weights"),
        ("{data} --out {here}/bad", 2, "summary.json exists already"),
        ("{data} --out {data}/report", 2, "report lies in"),
        ("{data} --wiener-from {here}/fit --out {here}/fit/report", 2, "report lies in"),
        ("{data} --out {here}/no/folder", 2, "no does not exist"),
        ("{data} --out {here}/bad/summary.json", 2, "summary.json exists already"),
    ],
)
def test_what_is_refused_before_the_model_is_opened(
    data: Path,
    tmp_path: Path,
    leave: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    saved(tmp_path / "bad", "good.png")
    saved(tmp_path / "fit", "other.png")
    (tmp_path / "bad" / "broken.png").write_bytes(b"broken")
    (tmp_path / "bad" / "summary.json").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert leave("model.onnx", *arguments.format(data=data, here=tmp_path).split()) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_model_is_named(data: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("absent.onnx", data, "--limit", 1) == 1
    assert "absent.onnx does not exist" in capsys.readouterr().err
    assert leave("absent.safetensors", data, "--limit", 1) == 1
    assert "absent.safetensors does not exist" in capsys.readouterr().err


@pytest.mark.usefixtures("session")
def test_overwrite_replaces_earlier_files(data: Path, tmp_path: Path, leave: Callable[..., int]) -> None:
    for extra in ([], ["--overwrite"]):
        assert leave("model.onnx", data, "--limit", 1, "--out", tmp_path / "out", *extra) == 0


@pytest.mark.usefixtures("session")
def test_figures_are_shown_where_they_cannot_be_written(
    data: Path,
    tmp_path: Path,
    leave: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, *_: object) -> None:
        raise SerpentError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("serpent.evaluation.report.write_rows", full)
    assert leave("model.onnx", data, "--limit", 1, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "PSNR dB" in captured.out
    assert "written" not in captured.out
    assert "No space left" in captured.err


def row(name: str, psnr: float, height: int = 12, width: int = 16) -> Row:
    return Row(name, height, width, {"degraded": Scores(20, 0.5), "model": Scores(psnr, 0.7)}, 0.1)


def test_the_sheet_shows_the_worst_and_the_best() -> None:
    sheet = ContactSheet(each=2)
    pictures = {"degraded": photo(0, 12, 16), "model": photo(1, 12, 16), "target": photo(2, 12, 16)}
    for index, psnr in enumerate([30, 21, 25, 28, float("inf"), 22, 26]):
        sheet.watch(row(f"{index}.png", psnr), pictures)
    assert [each.name for each in sheet.rows] == ["1.png", "5.png", "0.png", "4.png"]
    drawn = sheet.draw()
    levels = np.rint(pictures["model"] * 255)
    # Somewhere in the sheet lies the model's picture, level for level.
    height, width, _ = drawn.shape
    assert any(
        np.array_equal(np.rint(drawn[top : top + 12, left : left + 16] * 255), levels)
        for top in range(height // 4)
        for left in range(width - 16)
    )


def test_a_sheet_of_few_pictures_shows_each_once_and_large_ones_smaller() -> None:
    sheet = ContactSheet()
    picture = photo(0, 900, 500)
    sheet.watch(row("caf\udce9.png", 20, 900, 500), {"degraded": picture, "model": picture, "target": picture})
    assert len(sheet.rows) == 1
    height, width, _ = sheet.draw().shape
    assert CELL < height < 1.2 * CELL
    assert width < 3.3 * CELL


def test_infinite_psnr_is_null_in_json_and_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    found = Evaluation((row("caf\udce9.png", float("inf")),), 0, "0" * 64)
    assert summarise(found)["means"]["model"] == {"psnr": None, "ssim": 0.7}
    write_rows(tmp_path / "rows.csv", found)
    assert b"\ncaf\xe9.png,12,16,20.0000,0.500000,inf,0.700000,0.1000\n" in (tmp_path / "rows.csv").read_bytes()


def test_a_network_that_is_no_serpent(
    data: Path,
    tmp_path: Path,
    leave: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    from serpent.train import save_network

    (tmp_path / "half_network.py").write_text(
        "import torch\n"
        "class Half(torch.nn.Module):\n"
        "    size_multiple = 16\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.factor = torch.nn.Parameter(torch.tensor(0.5))\n"
        "    def forward(self, x):\n"
        "        assert x.shape[-1] % 16 == x.shape[-2] % 16 == 0\n"
        "        return self.factor * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import half_network

    network = half_network.Half()
    with torch.no_grad():
        network.factor.fill_(0.25)
    save_network(network, tmp_path / "half.safetensors", spec="half_network:Half", task="denoise", extra={})
    arguments = (tmp_path / "half.safetensors", data, "--device", "cpu", "--task", "denoise", "--limit", 2)
    assert leave(*arguments, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    expected = evaluate(lambda picture: picture * np.float32(0.25), Pairs(data, "denoise", limit=2))
    assert summary["means"] == summarise(expected)["means"]
    assert summary["backend"] == "torch"
    assert leave(*arguments, "--tta") == 2
    assert "tta was given for" in capsys.readouterr().err


def test_the_sheet_is_a_picture(data: Path, session: FakeSession, leave: Callable[..., int], tmp_path: Path) -> None:
    assert leave("model.onnx", data, "--out", tmp_path / "out") == 0
    assert session.closed
    with Image.open(tmp_path / "out" / "sheet.png") as image:
        assert image.width > 3 * CELL // 2
        assert image.height > 6 * 60
