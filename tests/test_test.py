"""test.py: judged as it was validated, on the right images, with numbers that anyone can compute again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score

import train
from logger.score_files import NAMES
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError, DataError, OutputError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def judge() -> Callable[[list[str]], dict[str, float]]:
    """`main` of test.py, loaded under another name: the standard library has a module `test`."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("test_script", train.ROOT / "test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def trained(small_config: Config, config_file: ConfigFile) -> Any:
    """A run of three epochs."""
    return train.main(["-c", str(config_file(small_config()))])


def test_results_lie_beside_the_log_and_no_folder_is_new(trained: Any, judge: Any) -> None:
    save_dir = trained.recorder.run.save_dir
    before = {path for path in save_dir.rglob("*") if path.is_dir()}

    judge(["-r", str(save_dir / "models" / "best.pth")])

    assert {path for path in save_dir.rglob("*") if path.is_dir()} == before
    assert all((trained.recorder.run.log / name).stat().st_size for name in NAMES)


def test_scores_equal_a_recomputation_from_predictions_and_from_a_plain_loop(
    trained: Any, judge: Any, tmp_path: Path, shapes_dir: Path
) -> None:
    judge(["-r", str(trained.models_dir / "best.pth"), "--out", str(tmp_path / "out")])

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(table) == metrics["num_images"] == 24
    assert metrics["accuracy"] == pytest.approx(accuracy_score(table["true"], table["predicted"]), abs=1e-6)
    assert metrics["loss"] == pytest.approx(table["cross_entropy"].mean(), abs=1e-6)
    assert metrics["cross_entropy"] == pytest.approx(table["cross_entropy"].mean(), abs=1e-9)
    loss, correct = plain_loop(trained, shapes_dir / "test")
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(correct, abs=1e-6)


def plain_loop(trained: Any, folder: Path) -> tuple[float, float]:
    """Loss and accuracy, image by image, with Pillow and numpy instead of the project's own loader."""
    state = load_checkpoint(trained.models_dir / "best.pth")
    model = trained.learner.model
    model.load_state_dict(state["model"])
    model.eval()
    mean, std = (np.array(state["input"][name]) for name in ("mean", "std"))
    losses, hits = [], []
    for index, name in enumerate(state["classes"]):
        for path in sorted((folder / name).iterdir()):
            pixels = (np.asarray(Image.open(path).convert("RGB")) / 255 - mean) / std
            with torch.no_grad():
                logits = model(torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32))
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor([index]))))
            hits.append(int(logits.argmax()) == index)
    return float(np.mean(losses)), float(np.mean(hits))


def test_the_validation_score_of_training_is_what_test_gives_on_those_images(
    tree_config: dict[str, Any], config_file: ConfigFile, judge: Any, tmp_path: Path
) -> None:
    config = tree_config
    trained = train.main(["-c", str(config_file(config))])

    scores = judge(["-r", str(trained.models_dir / "last.pth"), "--out", str(tmp_path / "out")])

    last = trained.recorder.history.last_row()
    assert scores["loss"] == pytest.approx(last["val/loss"], abs=1e-7)
    assert scores["accuracy"] == last["val/accuracy"]
    tested = set(pd.read_csv(tmp_path / "out" / "predictions.csv")["path"])
    assert len(tested) == 18
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "validation part" in metrics["images"]


def test_a_tree_that_has_changed_cannot_be_tested_on_its_held_back_part(
    tree_config: dict[str, Any], config_file: ConfigFile, judge: Any, tmp_path: Path
) -> None:
    config = tree_config
    last = train.main(["-c", str(config_file(config))]).models_dir / "last.pth"
    folder = next(Path(config["data_loader"]["args"]["data_dir"]).iterdir())
    shutil.copy(next(folder.iterdir()), folder / "new.png")

    with pytest.raises(DataError, match="cannot be told from the part that was trained on"):
        judge(["-r", str(last)])


def test_another_folder_is_judged_whole_with_classes_matched_by_name(
    trained: Any, judge: Any, tmp_path: Path, shapes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = load_checkpoint(trained.models_dir / "best.pth")["classes"]
    other = tmp_path / "other"
    for name in classes[1:]:  # the first class has no images there: indices must not shift
        shutil.copytree(shapes_dir / "val" / name, other / name)

    judge(["-r", str(trained.models_dir / "best.pth"), f"data_loader.args.data_dir={other}", "--out", str(tmp_path)])

    table = pd.read_csv(tmp_path / "predictions.csv")
    assert len(table) == 16
    assert set(table["true"]) == set(classes[1:])
    assert all(Path(path).parent.name == true for path, true in zip(table["path"], table["true"], strict=True))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    recalls = (table["true"] == table["predicted"]).groupby(table["true"]).mean()
    assert metrics["balanced_accuracy"] == pytest.approx(recalls.mean(), abs=1e-9)
    assert f"no image here is of {classes[0]}: balanced accuracy" in capsys.readouterr().out


def test_a_table_of_images_in_another_order_is_matched_by_the_names_of_its_classes(
    trained: Any, judge: Any, tmp_path: Path, shapes_dir: Path
) -> None:
    images = sorted((shapes_dir / "test").rglob("*.png"), reverse=True)
    lines = ["label,path", *(f"{path.parent.name},{path}" for path in images)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    loader = {"type": "CsvDataLoader", "args": {"csv_file": str(tmp_path / "list.csv"), "validation_split": 0}}
    loader["args"] |= {"eval_transform": [], "transform": []}
    best = str(trained.models_dir / "best.pth")

    folder = judge(["-r", best, "--out", str(tmp_path / "folder")])
    table = judge(["-r", best, f"data_loader={json.dumps(loader)}", "--out", str(tmp_path / "table")])

    assert table == pytest.approx(folder, abs=1e-6)
    whole = [pd.read_csv(tmp_path / name / "predictions.csv").set_index("path") for name in ("folder", "table")]
    assert whole[0]["predicted"].to_dict() == whole[1]["predicted"].to_dict()


def test_probabilities_of_all_classes_are_written_on_request(trained: Any, judge: Any, tmp_path: Path) -> None:
    judge(["-r", str(trained.models_dir / "best.pth"), "--out", str(tmp_path), "--probabilities"])

    table = pd.read_csv(tmp_path / "predictions.csv")
    columns = [name for name in table if name.startswith("probability of ")]
    assert table[columns].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    classes = [name.removeprefix("probability of ") for name in columns]
    assert [classes[index] for index in table[columns].to_numpy().argmax(1)] == table["predicted"].tolist()


def test_weights_that_give_no_numbers_are_refused_naming_an_image(trained: Any, judge: Any, tmp_path: Path) -> None:
    state = load_checkpoint(trained.models_dir / "best.pth")
    state["model"] = {
        name: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for name, value in state["model"].items()
    }
    save_checkpoint(tmp_path / "broken.pth", state)

    with pytest.raises(DataError, match=r"\.png: the network's scores of this image are not numbers \(24 of 24"):
        judge(["-r", str(tmp_path / "broken.pth")])


def test_a_place_that_cannot_be_written_is_found_before_the_images_are_judged(
    trained: Any, judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "out" / "calibration.png").mkdir(parents=True)
    monkeypatch.setitem(judge.__globals__, "evaluate", None)

    for out in ("file", "out"):
        with pytest.raises(OutputError, match=f"{out}: cannot write"):
            judge(["-r", str(trained.models_dir / "best.pth"), "--out", str(tmp_path / out)])


def test_a_class_that_the_model_does_not_know_is_refused(
    trained: Any, judge: Any, tmp_path: Path, shapes_dir: Path
) -> None:
    shutil.copytree(shapes_dir / "val", tmp_path / "other")
    next((tmp_path / "other").iterdir()).rename(tmp_path / "other" / "wolf")

    with pytest.raises(DataError, match="wolf"):
        judge(["-r", str(trained.models_dir / "best.pth"), f"data_loader.args.data_dir={tmp_path / 'other'}"])


def test_a_checkpoint_alone_is_enough(trained: Any, judge: Any, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "model.pth"
    alone.parent.mkdir()
    shutil.move(trained.models_dir / "best.pth", alone)
    shutil.rmtree(trained.recorder.run.save_dir)

    judge(["-r", str(alone)])

    assert (alone.parent / "model-test" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        ([], ConfigError, "-r CHECKPOINT"),
        (["-c", "config.json"], ConfigError, "give the trained checkpoint with -r, such as -r saved/models/best.pth"),
        (["-r", "auto"], ConfigError, "-r auto continues a training; give the checkpoint to test"),
        (["-r", "nowhere.pth"], CheckpointError, "no such file"),
        (["-r", "{best}", 'arch={"type": "MLP"}'], CheckpointError, "arch.type"),
        (["-r", "{best}", "data_loader.args.data_dir=/nowhere"], DataError, "no such folder"),
        (["-r", "{best}", "trainer.epoch=3"], ConfigError, "trainer.epoch"),
        (["-r", "{best}", "--outt", "x"], ConfigError, "--outt: no such option. Did you mean '--out'"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str], kind: type[Exception], match: str, trained: Any, judge: Any
) -> None:
    best = str(trained.models_dir / "best.pth")

    with pytest.raises(kind, match=match):
        judge([word.replace("{best}", best) for word in words])


def test_a_loader_that_makes_other_pixels_than_the_training_is_a_warning(
    trained: Any, judge: Any, tmp_path: Path, shapes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, out = str(trained.models_dir / "best.pth"), ["--out", str(tmp_path / "out")]
    judge(["-r", best, *out])
    assert "otherwise" not in capsys.readouterr().out
    args = {"data_dir": str(shapes_dir), "image_size": 16, "batch_size": 10}

    judge(["-r", best, *out, "data_loader=" + json.dumps({"type": "ImageFolderDataLoader", "args": args})])

    said = capsys.readouterr().out
    assert "warning: these images reach the network otherwise than in its training (eval_transform of" in said
    assert "otherwise than in its training" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_the_scores_of_the_config_too(
    small_config: Config, config_file: ConfigFile, judge: Any, tmp_path: Path
) -> None:
    config = small_config(metrics=["accuracy", "top_k_acc"])
    config["trainer"]["epochs"] = 1
    run = train.main(["-c", str(config_file(config))])

    scores = judge(["-r", str(run.models_dir / "best.pth"), "--out", str(tmp_path / "out")])

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "top k acc" in page
    assert f"{scores['loss']:.4f}" in page
