"""export.py: files that answer as the checkpoint does, and a script that needs nothing of this project; or one line."""

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import export
import train
from tests.small_checkpoint import save_evil
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError, ExportError, OutputError, UserError
from utils.safetensors_file import safetensors_metadata

HOSTILE = ['a/b "c"', "고양이", "<script>alert(1)</script>"]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory, shapes_dir: Path) -> Path:
    """A checkpoint of a short training on the drawn shapes, seen through a resize and a crop."""
    folder = tmp_path_factory.mktemp("run")
    steps = [{"type": "Resize", "args": {"size": 20}}, {"type": "CenterCrop", "args": {"size": 16}}]
    arch = {"layers": [8, "M", 8, "M"], "batch_norm": True, "classifier_width": 16, "pool_size": 2}
    data = {"data_dir": str(shapes_dir), "batch_size": 10, "cache": "off", "transform": steps, "eval_transform": steps}
    config = {
        "name": "small",
        "seed": 7,
        "device": "cpu",
        "n_gpu": 0,
        "arch": {"type": "VGG", "args": arch},
        "data_loader": {"type": "ImageFolderDataLoader", "args": data},
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "lr_scheduler": None,
        "trainer": {"epochs": 2, "save_dir": str(folder / "saved"), "tensorboard": False, "verbosity": 0},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    trained = train.main(["-c", str(folder / "config.json")])
    return trained.models_dir / "last.pth"


def changed(best: Path, folder: Path, **entries: Any) -> Path:
    """A copy of the checkpoint with other entries."""
    save_checkpoint(folder / "changed.pth", load_checkpoint(best) | entries)
    return folder / "changed.pth"


def needs_onnx() -> None:
    for package in export.ONNX_PACKAGES:
        pytest.importorskip(package)


def script(file: Path, pictures: list[Path], *, without: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """What the script beside a file prints of pictures, in a process without these packages and the project."""
    program = f"import sys, runpy; sys.modules.update(dict.fromkeys({without!r})); del sys.argv[0]\n"
    program += "runpy.run_path(sys.argv[0])"
    words = [sys.executable, "-I", "-X", "utf8", "-c", program, str(file), *map(str, pictures)]
    done = subprocess.run(words, cwd=file.parent, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    rows = [re.findall(r"('[^']*'|\"[^\"]*\") ([\d.]+)", line) for line in done.stdout.splitlines()]
    assert len(rows) == len(pictures)
    return {
        str(path): {name[1:-1]: float(value) for name, value in row} for path, row in zip(pictures, rows, strict=True)
    }


@pytest.fixture(scope="module")
def judged(best: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table that test.py writes of the checkpoint."""
    spec = importlib.util.spec_from_file_location("test_script", train.ROOT / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp("judged")
    module.main(["-r", str(best), "--out", str(out)])
    return pd.read_csv(out / "predictions.csv")


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_script_without_the_project_predicts_what_test_py_does(
    kind: str, best: Path, judged: pd.DataFrame, tmp_path: Path
) -> None:
    if kind == "onnx":
        needs_onnx()
    file = export.main(["-r", str(best), "--out", str(tmp_path / f"net.{kind}")])

    pictures = [Path(path) for path in judged["path"]]
    without = ("torchvision", "trained", "utils", *(["torch"] if kind == "onnx" else []))
    found = script(file.with_name(f"net_{kind}.py"), pictures, without=without)

    assert len(pictures) == 24
    for _, row in judged.iterrows():
        answers = found[row["path"]]
        assert next(iter(answers)) == row["predicted"]
        assert answers[row["predicted"]] == pytest.approx(row["confidence"], abs=1e-4)


def test_the_log_says_what_was_made_and_on_what_it_was_compared(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main(["-r", str(best), "--out", str(tmp_path / "net.pt2"), "--images", "10"])

    text = capsys.readouterr().out
    assert "uint8, batch x 3 x 16 x 16" in text
    assert re.search(r"compared on +10 of the 24 test images of .*: top-1 equal on all, largest difference \d", text)
    assert "in fp32, whatever the training did" in text


def test_without_the_data_made_images_are_compared_and_that_is_said(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(best)
    state["config"]["data_loader"]["args"]["data_dir"] = str(tmp_path / "gone")
    elsewhere = changed(best, tmp_path, config=state["config"])

    export.main(["-r", str(elsewhere), "--format", "pt2"])

    text = capsys.readouterr().out
    assert "64 made images: top-1 equal on all" in text
    assert re.search(r"note: compared on made images only, the data is not here: .*gone", text)


def test_class_names_of_any_kind_come_back(best: Path, tmp_path: Path) -> None:
    named = changed(best, tmp_path, classes=HOSTILE)

    file = export.main(["-r", str(named), "--format", "pt2"])

    extra = {"classes": "", "preprocessing": "", "run": ""}
    torch.export.load(file, extra_files=extra)
    assert json.loads(extra["classes"]) == HOSTILE
    assert json.loads(extra["preprocessing"])["eval_transform"][1] == {"type": "CenterCrop", "args": {"size": 16}}
    assert json.loads(extra["run"])["epochs_done"] == 2


def scores(file: Path, images_NCHW: torch.Tensor) -> np.ndarray:
    return torch.export.load(file).module()(images_NCHW).detach().numpy()


def test_logits_and_temperature(best: Path, tmp_path: Path) -> None:
    images_NCHW = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    warm = changed(best, tmp_path, temperature=2.0)

    plain = export.main(["-r", str(best), "--out", str(tmp_path / "plain.pt2"), "--logits"])
    soft = export.main(["-r", str(warm), "--out", str(tmp_path / "soft.pt2")])

    exponentials_NK = np.exp(scores(plain, images_NCHW).astype(np.float64) / 2)
    assert scores(soft, images_NCHW) == pytest.approx(exponentials_NK / exponentials_NK.sum(1, keepdims=True), abs=1e-6)


def test_views_are_left_out_unless_they_are_asked_for(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_NCHW = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    state = load_checkpoint(best)
    state["config"]["trainer"]["test_time_views"] = "flip"
    flips = changed(best, tmp_path, config=state["config"])

    once = export.main(["-r", str(flips), "--out", str(tmp_path / "once.pt2"), "--logits"])
    said = capsys.readouterr().out
    twice = export.main(["-r", str(flips), "--out", str(tmp_path / "twice.pt2"), "--logits", "--views"])

    both = [scores(once, images) for images in (images_NCHW, images_NCHW.flip(3))]
    assert scores(twice, images_NCHW) == pytest.approx(np.mean(both, axis=0), abs=1e-5)
    assert "test.py judges flip views of each image, the file looks once; --views puts them in" in said
    with pytest.raises(ConfigError, match="test_time_views"):
        export.main(["-r", str(best), "--format", "pt2", "--views", "--out", str(tmp_path / "x.pt2")])


def test_weights_as_safetensors_start_a_run(best: Path, tmp_path: Path, shapes_dir: Path) -> None:
    file = export.main(["-r", str(best), "--out", str(tmp_path / "net.safetensors")])
    again = export.main(["-r", str(best), "--out", str(tmp_path / "again.safetensors")])
    config = load_checkpoint(best)["config"]
    config["trainer"] |= {"epochs": 1, "save_dir": str(tmp_path / "saved")}
    config["optimizer"]["args"]["lr"] = 0.0  # so that the weights stay what was loaded
    (tmp_path / "c.json").write_text(json.dumps(config), encoding="utf-8")

    tuned = train.main(["-c", str(tmp_path / "c.json"), "--weights", str(file)])

    assert tuned is not None
    for name, value in load_checkpoint(best)["model"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(tuned.learner.model.state_dict()[name], value), name
    assert json.loads(safetensors_metadata(file)["arch"])["type"] == "VGG"
    assert file.read_bytes() == again.read_bytes()
    assert not (tmp_path / "net_safetensors.py").exists()


def test_finished_floats_are_taken_without_a_script(
    best: Path, tmp_path: Path, shapes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(best)
    floats = [
        {"type": "Resize", "args": {"size": 16}},
        {"type": "ToDtype", "args": {"dtype": "float32", "scale": True}},
    ]
    state["config"]["data_loader"]["args"] |= {"transform": floats, "eval_transform": floats}
    state["input"] |= {"mean": None, "std": None}
    file = changed(best, tmp_path, config=state["config"], input=state["input"])

    made = export.main(["-r", str(file), "--format", "pt2"])

    text = capsys.readouterr().out
    assert "float32, batch x 3 x 16 x 16" in text
    assert "note: no script beside it: the evaluation transforms make floats" in text
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pt2", ".pth"]
    assert scores(made, torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_what_is_there_is_not_replaced_unless_that_is_asked_for(best: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"precious")
    words = ["-r", str(best), "--out", str(file)]

    with pytest.raises(OutputError, match="is there already"):
        export.main(words)
    assert file.read_bytes() == b"precious"
    export.main([*words, "--overwrite"])

    assert file.stat().st_size > 1000


def test_the_checkpoint_is_never_replaced(best: Path) -> None:
    with pytest.raises(OutputError, match="is the checkpoint itself"):
        export.main(["-r", str(best), "--format", "pt2", "--out", str(best), "--overwrite"])


def test_a_file_that_answers_otherwise_is_not_written(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export.program_answers

    def turned_round(*words: Any) -> Any:
        answers, found = honest(*words)
        return lambda images_NCHW: answers(images_NCHW).flip(1), found

    monkeypatch.setattr(export, "program_answers", turned_round)

    with pytest.raises(ExportError, match="would not answer as the network does"):
        export.main(["-r", str(best), "--out", str(tmp_path / "net.pt2")])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        ([], ConfigError, "-r CHECKPOINT"),
        (["-r", "auto"], ConfigError, "give the checkpoint to export"),
        (["-r", "nowhere.pth", "--format", "pt2"], CheckpointError, "no such file"),
        (["-r", "{best}", "--format", "tflite"], ConfigError, "tflite"),
        (["-r", "{best}", "--format", "pt2", "--out", "x.onnx"], ConfigError, "does not end in .pt2"),
        (["-r", "{best}", "--out", "x.safetensors", "--logits"], ConfigError, "weights alone"),
        (["-r", "{best}", "--format", "pt2", "--images", "0"], ConfigError, "1 or more"),
        (["-r", "{best}", "--format", "pt2", "-d", "0"], ConfigError, "in fp32 on the CPU"),
        (["-r", "{best}", "--format", "pt2", "trainer.precision=bf16"], ConfigError, "in fp32 on the CPU"),
        (["-r", "{best}", "--format", "pt2", 'arch={"type": "MLP"}'], CheckpointError, "arch.type"),
        (["-r", "{best}", "--format", "pt2", "data_loader.args.data_dir=/nowhere"], UserError, "no such folder"),
        (["-r", "{best}", "--format", "pt2", "--out", "/proc/1/x/net.pt2"], OutputError, "cannot write"),
    ],
)
def test_bad_input_is_one_message(words: list[str], kind: type[Exception], match: str, best: Path) -> None:
    with pytest.raises(kind, match=match):
        export.main([word.replace("{best}", str(best)) for word in words])


@pytest.mark.parametrize("damage", ["truncated", "hostile", "weights alone"])
def test_other_files_are_refused(damage: str, best: Path, tmp_path: Path) -> None:
    file, canary = tmp_path / "x.pth", tmp_path / "canary"
    if damage == "truncated":
        file.write_bytes(best.read_bytes()[:3000])
    elif damage == "hostile":
        save_evil(file, canary, "zip")
    else:
        torch.save({"w": torch.zeros(3)}, file)

    with pytest.raises(CheckpointError):
        export.main(["-r", str(file), "--format", "pt2"])

    assert not canary.exists()
    assert list(tmp_path.iterdir()) == [file]


def test_missing_packages_are_named_in_one_line_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in export.ONNX_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigError, match="pip install onnx onnxscript onnxruntime") as error:
        export.read_words(["-r", "nowhere.pth"])

    assert "\n" not in str(error.value)


def test_help_does_not_wait_for_torch() -> None:
    program = f"import sys, runpy; sys.argv = ['export.py', '--help']; sys.path.insert(0, {str(train.ROOT)!r})\n"
    program += "try: runpy.run_path('export.py', run_name='__main__')\nexcept SystemExit as e: assert e.code == 0\n"
    program += "assert 'torch' not in sys.modules"

    done = subprocess.run([sys.executable, "-c", program], cwd=train.ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "--overwrite" in done.stdout


def test_a_pt2_is_read_from_memory_as_from_the_disk(best: Path, tmp_path: Path) -> None:
    file = export.main(["-r", str(best), "--out", str(tmp_path / "net.pt2")])

    images_NCHW = torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    from_memory = torch.export.load(io.BytesIO(file.read_bytes())).module()(images_NCHW)

    assert np.array_equal(from_memory.detach().numpy(), scores(file, images_NCHW))
