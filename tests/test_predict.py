"""predict.py: what test.py says, of any pictures, from the checkpoint alone; whatever else is among them."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import predict
import train
from tests.test_test import judge  # noqa: F401  a fixture
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError, DataError, OutputError

ROOT = Path(__file__).resolve().parent.parent


def config_of(folder: Path, data: Path, **changes: Any) -> dict[str, Any]:
    args = {"data_dir": str(data), "batch_size": 7, "cache": "off", "image_size": 16}
    config = {
        "name": "small",
        "seed": 7,
        "device": "cpu",
        "n_gpu": 0,
        "arch": {"type": "VGG", "args": {"layers": [8, "M", 8, "M"], "classifier_width": 16, "pool_size": 2}},
        "data_loader": {"type": "ImageFolderDataLoader", "args": args},
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "trainer": {"epochs": 1, "save_dir": str(folder / "saved"), "tensorboard": False, "verbosity": 0},
    }
    return config | changes


def trained_in(folder: Path, data: Path, **changes: Any) -> Path:
    """The last checkpoint of a short run."""
    file = folder / "config.json"
    file.write_text(json.dumps(config_of(folder, data, **changes)))
    return train.main(["-c", str(file)]).models_dir / "last.pth"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, shapes_dir: Path) -> Path:
    """Of a run whose config names no transforms, on a copy of the data that is gone."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(shapes_dir, folder / "data")
    last = trained_in(folder, folder / "data")
    shutil.move(last, folder / "model.pth")
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "saved")
    return folder / "model.pth"


@pytest.fixture
def said(tmp_path: Path, checkpoint: Path) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """`said(PATH, ...)`: exit code and rows of predictions.csv."""

    def run(*words: str | Path) -> tuple[int, list[dict[str, str]]]:
        out = tmp_path / "out" / "predictions.csv"
        code = predict.main(["-r", str(checkpoint), "--out", str(out), *map(str, words)])
        return code, rows_of(out)

    return run


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_equal_those_of_test_py_to_the_last_digit(
    judge: Any,  # noqa: F811
    checkpoint: Path,
    said: Any,
    shapes_dir: Path,
    tmp_path: Path,
    num_workers: int,
) -> None:
    judge(["-r", str(checkpoint), f"data_loader.args.data_dir={shapes_dir / 'val'}", "--out", str(tmp_path / "test")])

    code, rows = said(shapes_dir / "val", "--num-workers", str(num_workers))

    assert code == 0
    columns = ("path", "predicted", "confidence")
    expected = [[row[name] for name in columns] for row in rows_of(tmp_path / "test" / "predictions.csv")]
    assert [[row[name] for name in columns] for row in rows] == expected
    assert len(rows) == 24


def test_probabilities_equal_a_plain_loop_with_pillow_and_numpy(checkpoint: Path, said: Any, shapes_dir: Path) -> None:
    state = load_checkpoint(checkpoint)
    config = state["config"]["arch"]["args"]
    from model.vgg import VGG

    model = VGG(**config)
    model.load_state_dict(state["model"])
    model.eval()

    _, rows = said(shapes_dir / "test", "--probabilities", "--top-k", "2")

    for row in rows[::5]:
        # 16 px: Resize to 18, then the middle 16.
        large = torch.from_numpy(np.asarray(Image.open(row["path"]).convert("RGB")).copy()).permute(2, 0, 1)[None]
        large = torch.nn.functional.interpolate(large.float(), size=(18, 18), mode="bilinear", antialias=True)
        pixels = large.round()[:, :, 1:17, 1:17] / 255
        mean, std = (torch.tensor(state["input"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        with torch.no_grad():
            expected = model((pixels - mean) / std).softmax(1)[0].numpy()
        found = [float(row[f"probability of {name}"]) for name in state["classes"]]
        assert found == pytest.approx(expected, abs=1e-4)
        best, second = np.argsort(-np.array(found))[:2]
        assert (row["predicted"], row["predicted_2"]) == (state["classes"][best], state["classes"][second])
        assert float(row["confidence_2"]) == found[second]


def test_formats_hold_the_same_and_lines_come_to_standard_output_alone(
    checkpoint: Path, shapes_dir: Path, tmp_path: Path, capsysbinary: Any
) -> None:
    words = ["-r", str(checkpoint), str(shapes_dir / "test"), "--top-k", "2", "--probabilities"]

    predict.main([*words, "--out", str(tmp_path / "a.json")])
    capsysbinary.readouterr()
    predict.main([*words, "--out", "-", "--format", "jsonl"])
    lines = capsysbinary.readouterr().out.decode().splitlines()
    predict.main([*words, "--out", str(tmp_path / "a.csv")])

    objects = json.loads((tmp_path / "a.json").read_text())
    assert [json.loads(line) for line in lines] == objects
    rows = rows_of(tmp_path / "a.csv")
    assert [row["path"] for row in rows] == [one["path"] for one in objects]
    assert [float(row["confidence"]) for row in rows] == [one["confidence"] for one in objects]
    assert [row["predicted_2"] for row in rows] == [one["top"][1]["class"] for one in objects]
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in objects)


def odd_pictures(folder: Path) -> None:
    """Pictures of every kind that can be read, and of some that cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    rgb = noise.integers(256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(folder / "wide.jpg")
    Image.fromarray(rgb[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([rgb, rgb[:, :, :1]])).save(folder / "alpha.png")
    Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    frames = [Image.fromarray(np.roll(rgb, by, 0)) for by in (0, 5)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    Image.fromarray(rgb[:1, :1]).save(folder / "dot.png")
    whole = (folder / "wide.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>no</html>")
    Image.new("1", (10_000, 10_000)).save(folder / "bomb.png")
    Image.new("1", (1, 300_000)).save(folder / "line.png")


def test_what_cannot_be_read_has_a_row_with_the_reason_and_stops_nothing(said: Any, tmp_path: Path) -> None:
    odd_pictures(tmp_path / "in")

    code, rows = said(tmp_path / "in", tmp_path / "in" / "gone.jpg", str(tmp_path / "in" / "*.gif"))

    assert code == 1
    errors = {Path(row["path"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"*.gif", "bomb.png", "cut.jpg", "empty.png", "gone.jpg", "line.png", "page.jpg"}
    assert errors["gone.jpg"] == "no such file"
    assert errors["*.gif"] == "matches nothing"
    assert errors["empty.png"] == "empty file"
    assert "pixels, the limit" in errors["bomb.png"]
    assert "Resize would make" in errors["line.png"]
    good = [row for row in rows if not row["error"]]
    assert {Path(row["path"]).name for row in good} == {
        "wide.jpg", "grey.png", "alpha.png", "sixteen.png", "moving.webp", "dot.png"
    }  # fmt: skip
    assert all(0 < float(row["confidence"]) <= 1 for row in good)
    assert [row["path"] for row in rows[1:-1]] == sorted(row["path"] for row in rows[1:-1])


def test_only_bad_pictures_are_all_listed(said: Any, tmp_path: Path) -> None:
    for number in range(20):  # several batches of nothing
        (tmp_path / f"{number:02}.png").write_bytes(b"no")

    code, rows = said(*sorted(tmp_path.glob("*.png")))

    assert code == 1
    assert [Path(row["path"]).stem for row in rows] == [f"{number:02}" for number in range(20)]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_odd_names_come_back(
    form: str, checkpoint: Path, shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a=b.png", "코끼리.png", "two\nlines.png", 'q"uote,comma.png', "<script>.png", "\x1b[31m.png", "[x].png"]
    names.append(os.fsdecode(b"latin-\xe9.png"))
    source = next((shapes_dir / "test").rglob("*.png"))
    for name in names:
        shutil.copy(source, tmp_path / name)
    (tmp_path / names[-1]).write_bytes(b"")
    paths = [str(tmp_path / name) for name in names]
    out = tmp_path / f"out.{form}"

    code = predict.main(["-r", str(checkpoint), "--out", str(out), *paths])

    assert code == 1
    assert "latin-\N{REPLACEMENT CHARACTER}.png: empty file" in capsys.readouterr().err
    text = out.read_text(encoding="utf-8")
    if form == "csv":
        found = [row["path"] for row in rows_of(out)]
        assert found == [*paths[:-1], paths[-1].replace("\udce9", "\\udce9")]
    else:
        objects = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
        assert [one["path"] for one in objects] == paths


def test_a_list_on_standard_input(said: Any, shapes_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((shapes_dir / "test").rglob("*.png"))[:4]
    text = f"{paths[0]}\r\n{paths[1]}\n\n{paths[0]}\n{paths[2].parent}/../{paths[2].parent.name}/{paths[2].name}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    code, rows = said("-", paths[1])

    assert code == 0
    assert [Path(row["path"]).name for row in rows] == [path.name for path in paths[:3]]


def test_classes_with_odd_names_and_a_calibrated_temperature(
    checkpoint: Path, shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(checkpoint)
    classes = ["a/b", 'say "hi", 코끼리', "<script>alert(1)</script>"]
    assert len(classes) == len(state["classes"])
    save_checkpoint(tmp_path / "odd.pth", state | {"classes": classes, "temperature": 2.0})
    words = [str(shapes_dir / "test"), "--probabilities", "--contact-sheet", str(tmp_path / "sheet.png")]

    predict.main(["-r", str(tmp_path / "odd.pth"), "--out", str(tmp_path / "odd.csv"), *words])
    predict.main(["-r", str(checkpoint), "--out", str(tmp_path / "plain.csv"), *words])

    odd, plain = (
        np.array([list(row.values())[3 : 3 + len(classes)] for row in rows_of(tmp_path / name)], float)
        for name in ("odd.csv", "plain.csv")
    )
    softened = np.sqrt(plain) / np.sqrt(plain).sum(1, keepdims=True)  # dividing logits by 2 is a square root
    assert odd == pytest.approx(softened, rel=1e-9)
    assert list(rows_of(tmp_path / "odd.csv")[0])[3:-1] == [f"probability of {name}" for name in classes]
    assert "temperature 2" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.0, -1, "2", float("nan"), float("inf"), True])
def test_a_temperature_that_is_none_is_refused(value: Any, checkpoint: Path, shapes_dir: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "odd.pth", load_checkpoint(checkpoint) | {"temperature": value})

    with pytest.raises(CheckpointError, match="temperature"):
        predict.main(["-r", str(tmp_path / "odd.pth"), str(shapes_dir / "test"), "--out", str(tmp_path / "x.csv")])


def test_flipped_pictures_have_the_same_scores_with_flips(said: Any, shapes_dir: Path, tmp_path: Path) -> None:
    source = sorted((shapes_dir / "test").rglob("*.png"))[-1]
    Image.open(source).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "flipped.png")

    _, (one, other) = said(source, tmp_path / "flipped.png", "--views", "flip")
    _, (alone, mirrored) = said(source, tmp_path / "flipped.png")

    assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-5)
    assert abs(float(alone["confidence"]) - float(mirrored["confidence"])) > 1e-4


def test_sizes_may_differ_where_nothing_cuts_them_and_the_network_takes_them(
    tmp_path: Path, shapes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = {"data_dir": str(shapes_dir), "batch_size": 7, "cache": "off", "transform": [], "eval_transform": []}
    last = trained_in(tmp_path, shapes_dir, data_loader={"type": "ImageFolderDataLoader", "args": args})
    odd_pictures(tmp_path / "in")
    paths = [tmp_path / "in" / name for name in ("wide.jpg", "dot.png", "grey.png")]
    paths.insert(1, next((shapes_dir / "test").rglob("*.png")))
    alone = []

    code = predict.main(["-r", str(last), "--out", str(tmp_path / "all.csv"), *map(str, paths)])
    for path in paths:
        predict.main(["-r", str(last), "--out", str(tmp_path / "one.csv"), str(path)])
        alone += rows_of(tmp_path / "one.csv")

    rows = rows_of(tmp_path / "all.csv")
    assert code == 1
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert rows[2]["error"] == "1x1 pixels reach the network, which was trained on 16x16 and cannot take them"
    for row, by_itself in zip(rows, alone, strict=True):
        assert row["predicted"] == by_itself["predicted"]
        if row["confidence"]:
            assert float(row["confidence"]) == pytest.approx(float(by_itself["confidence"]), abs=1e-5)
    assert "2 pictures reached the network at other sizes (such as 40x60) than the 16x16" in capsys.readouterr().err


def test_grey_checkpoints_take_colour_pictures(tmp_path: Path, shapes_dir: Path) -> None:
    args = {"data_dir": str(shapes_dir), "batch_size": 7, "cache": "ram", "image_size": 16, "channels": 1}
    arch = {"type": "MLP", "args": {"hidden_widths": [8]}}
    last = trained_in(tmp_path, shapes_dir, arch=arch, data_loader={"type": "ImageFolderDataLoader", "args": args})
    words = ["-r", str(last), str(shapes_dir / "test"), "--out", str(tmp_path / "out.csv")]

    assert predict.main(words) == 0
    with pytest.raises(ConfigError, match="MLP has no convolution near its end"):
        predict.main([*words, "--explain", str(tmp_path / "heat")])
    assert not (tmp_path / "heat").exists()
    assert load_checkpoint(last)["input"]["pixels"]["channels"] == 1


def test_explanations_and_the_sheet_are_pictures(said: Any, shapes_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")

    code, rows = said(
        shapes_dir / "test", tmp_path / "bad.png", "--explain", tmp_path / "heat", "--contact-sheet", tmp_path / "s.png"
    )

    assert code == 1
    assert len(list((tmp_path / "heat").iterdir())) == len(rows) - 1 == 24
    with Image.open(tmp_path / "heat" / f"000000_{Path(rows[0]['path']).stem}.png") as first:
        assert first.size == (2 * 224 + 8, 224)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 800


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        ([], ConfigError, "give pictures"),
        (["{in}"], DataError, "no pictures to look at\n.*a folder without pictures .looked for bmp"),
        (["{in}/*.png"], DataError, "no pictures to look at\n.*matches nothing"),
        (["-"], DataError, "standard input is empty"),
        (["{picture}", "--top-k", "0"], ConfigError, "--top-k 0: must be at least 1"),
        (["{picture}", "--batch-size", "0"], ConfigError, "--batch-size 0: must be at least 1"),
        (["{picture}", "--num-workers", "-1"], ConfigError, "--num-workers -1: must be at least 0"),
        (["{picture}", "--topk", "2"], ConfigError, "--topk: no such option. Did you mean '--top-k'"),
        (["{picture}", "--out", "{picture}"], OutputError, "is to be read, and would be overwritten"),
        (["{picture}", "--contact-sheet", "{checkpoint}"], OutputError, "is to be read"),
        (["{picture}", "--out", "{in}"], OutputError, "cannot write .Is a directory"),
        (["{picture}", "--out", "{picture}/x.csv"], OutputError, "cannot write"),
        (["{picture}", "--explain", "{picture}"], OutputError, "cannot write"),
        (["{picture}", "--set", "trainer.epoch=3"], ConfigError, "trainer.epoch"),
        (["{picture}", "--set", "arch=MLP"], CheckpointError, "arch.type"),
        (["{picture}", "-r", "{picture}"], CheckpointError, "truncated or not a checkpoint|not a checkpoint"),
        (["{picture}", "-r", "auto"], ConfigError, "-r auto continues a training"),
    ],
)
def test_bad_input_is_one_message_before_anything_is_written(
    words: list[str],
    kind: type[Exception],
    match: str,
    checkpoint: Path,
    shapes_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in").mkdir()
    picture = shutil.copy(next((shapes_dir / "test").rglob("*.png")), tmp_path)
    names = {"{in}": str(tmp_path / "in"), "{picture}": str(picture), "{checkpoint}": str(checkpoint)}
    words = [next((word.replace(key, name) for key, name in names.items() if key in word), word) for word in words]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    before, size = Path(picture).read_bytes(), checkpoint.stat().st_size

    with pytest.raises(kind, match=match):
        predict.main(["-r", str(checkpoint), "--out", str(tmp_path / "out.csv"), *words])

    assert Path(picture).read_bytes() == before
    assert checkpoint.stat().st_size == size


def test_the_checkpoint_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the trained checkpoint with -r"):
        predict.main([str(tmp_path)])


def test_the_script_says_no_more_than_it_must(checkpoint: Path, shapes_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "predict.py"), "-r", str(checkpoint), "--out", "-"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    good = subprocess.run([*command, str(shapes_dir / "test")], capture_output=True, text=True, env=environment)
    bad = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, env=environment)

    assert good.returncode == 0
    assert len(good.stdout.splitlines()) == 25
    assert "24 pictures in" in good.stderr
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: no pictures to look at")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_ctrl_c_leaves_whole_lines(form: str, checkpoint: Path, shapes_dir: Path, tmp_path: Path) -> None:
    """Lines come through a pipe as they are made; after the first ones the process is interrupted."""
    source = next((shapes_dir / "test").rglob("*.png"))
    for number in range(3000):
        (tmp_path / f"{number:04}.png").hardlink_to(source)
    words = [*("-r", str(checkpoint)), *("--out", "-", "--format", form, "--num-workers", "2", str(tmp_path))]

    with subprocess.Popen(
        [sys.executable, str(ROOT / "predict.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        begun = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.stdout.read(), process.stderr.read()

    assert process.returncode == 130
    assert "\ninterrupted\n" in said.decode()
    text = (begun + rest).decode()
    if form == "json":
        found = json.loads(text)
    else:
        assert text.endswith("\n")
        found = list(csv.DictReader(io.StringIO(text)))
    assert 0 < len(found) < 3000
    assert [one["path"] for one in found] == [str(tmp_path / f"{number:04}.png") for number in range(len(found))]
    assert all(0 < float(one["confidence"]) <= 1 for one in found)
