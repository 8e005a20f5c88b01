"""on_bad_image "skip": what is damaged inside is replaced in training, left out of evaluation, counted and named."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import train
from base.skipped import MIN_BAD
from data_loader.data_loaders import ImageFolderDataLoader
from tests.test_stop import stop_at
from tests.test_test import judge  # noqa: F401  a fixture
from utils.errors import DataError
from utils.seed import seed_for
from utils.stop import RunStopped

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]


def damage(path: Path) -> str:
    """Zeroes in the middle of a PNG, whose two ends stay as they are; gives the path as a text."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 6 : middle + 6] = bytes(12)
    path.write_bytes(content)
    return str(path)


def pictures(folder: Path, part: str) -> list[Path]:
    """In the order of the data set."""
    return sorted((folder / part).rglob("*.png"))


@pytest.fixture
def folder(shapes_dir: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged: 72 pictures for training, 24 for validation, 24 to test on."""
    return Path(shutil.copytree(shapes_dir, tmp_path / "pictures"))


def loader_of(folder: Path, **options: Any) -> ImageFolderDataLoader:
    lists: dict[str, Any] = {"transform": [], "eval_transform": []}
    return ImageFolderDataLoader(str(folder), batch_size=10, seed=3, **{"on_bad_image": "skip", **lists, **options})


def batches_of(loader: Any, epoch: int = 0, batches_done: int = 0) -> list[Any]:
    loader.set_epoch(epoch, batches_done)
    return list(loader)


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b) for pair in zip(left, right, strict=True) for a, b in zip(*pair, strict=True)
    )


# --- training ----------------------------------------------------------------------------------------------------


def test_in_the_place_of_a_bad_image_comes_the_one_that_its_key_draws(folder: Path) -> None:
    paths = pictures(folder, "train")
    bad = 40
    damage(paths[bad])
    loader, whole = loader_of(folder), loader_of(folder, on_bad_image="error")
    other = seed_for(3, "replace", 2, bad, 1) % len(paths)
    assert other != bad

    loader.set_epoch(2)
    keys = [key[1] for batch in loader.batches for key in batch]
    images = torch.cat([images for images, _ in batches_of(loader, 2)])
    targets = torch.cat([targets for _, targets in batches_of(loader, 2)])

    image, target = whole.dataset.dataset[other]
    assert len(images) == len(paths)
    assert torch.equal(images[keys.index(bad)], image)
    assert int(targets[keys.index(bad)]) == target
    assert list(loader.bad) == [bad]


def test_workers_and_a_resume_in_mid_epoch_draw_the_same_replacements(folder: Path) -> None:
    for index in (3, 30, 50, 61):
        damage(pictures(folder, "train")[index])
    expected = batches_of(loader_of(folder), 1)

    worked = loader_of(folder, num_workers=2)

    assert same(batches_of(worked, 1), expected)
    assert set(worked.bad) == {3, 30, 50, 61}
    for batches_done in (1, 4):
        assert same(batches_of(loader_of(folder), 1, batches_done), expected[batches_done:])
        assert same(batches_of(worked, 1, batches_done), expected[batches_done:])


def test_another_epoch_draws_other_replacements(folder: Path) -> None:
    bad = pictures(folder, "train")[40]
    damage(bad)
    dataset = loader_of(folder).dataset

    seen = {float(dataset.__getitems__([(epoch, 40)]).batch[0].float().sum()) for epoch in range(6)}

    assert len(seen) > 1


def test_each_bad_image_is_named_once_however_often_it_comes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = damage(pictures(folder, "train")[40])
    loader = loader_of(folder)

    with caplog.at_level(logging.WARNING, "run"):
        for epoch in range(3):
            batches_of(loader, epoch)

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"warning: bad image replaced by another: {bad}: damaged image (")
    assert loader.num_skipped == 1


def test_more_bad_images_than_the_limit_end_the_run_and_as_many_do_not(folder: Path) -> None:
    paths = pictures(folder, "train")
    for index in range(0, 6 * MIN_BAD, 6):
        damage(paths[index])
    loader = loader_of(folder)
    batches_of(loader)
    assert loader.num_skipped == MIN_BAD

    damage(paths[71])

    with pytest.raises(DataError, match=rf"the {MIN_BAD + 1}th of 72 images that cannot be read, and {MIN_BAD} are"):
        batches_of(loader_of(folder))


def test_nine_bad_images_in_a_row_are_no_chance(folder: Path) -> None:
    for path in pictures(folder, "train"):
        damage(path)

    batch = loader_of_damaged(folder)

    assert batch.message.endswith("\n  the 8 images drawn before it cannot be read either")


def loader_of_damaged(folder: Path) -> Any:
    """One batch; the loader itself would look at an image when it is made."""
    from base.keyed import KeyedDataset
    from data_loader.folder import FileRules, read_parts

    files = read_parts(folder, FileRules(on_bad_image="skip"), training=True).train
    return KeyedDataset(files, torch.utils.data.default_collate, 3, torch.arange(72)).__getitems__([(0, 5)])


def test_the_first_images_may_be_the_bad_ones(folder: Path) -> None:
    for path in pictures(folder, "train")[:3]:
        damage(path)
    loader = loader_of(folder, shuffle=False)

    image_CHW = loader.first_image()
    images_NCHW, targets_N = loader.first_batch(size=3)

    assert image_CHW.shape == (3, 16, 16)
    assert images_NCHW.shape == (3, 3, 16, 16)
    assert targets_N.shape == (3,)


def test_without_skip_a_bad_image_ends_the_run_by_its_name(folder: Path) -> None:
    bad = damage(pictures(folder, "train")[40])

    with pytest.raises(DataError, match=f"^{bad}: damaged image"):
        batches_of(loader_of(folder, on_bad_image="error"))


def test_a_resumed_run_is_the_uninterrupted_one_where_images_are_replaced(
    folder: Path, small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in (2, 40, 41):
        damage(pictures(folder, "train")[index])
    damage(pictures(folder, "val")[7])
    config = small_config()
    config["data_loader"]["args"] |= {"data_dir": str(folder), "on_bad_image": "skip"}
    config["trainer"]["epochs"] = 2
    path = str(config_file(config))
    whole = train.main(["-c", path])
    with monkeypatch.context() as patch:
        stop_at(patch, 11)  # of 16
        with pytest.raises(RunStopped):
            train.main(["-c", path, "name=stopped"])

    last = next((Path(config["trainer"]["save_dir"]) / "models" / "stopped").glob("*/last.pth"))
    continued = train.main(["-r", str(last), "data_loader.args.num_workers=2"])

    assert continued.digests() == whole.digests()
    assert whole.train_loader.num_skipped == 3
    assert whole.valid_loader.num_skipped == 1


# --- evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_leaves_bad_images_out_and_keeps_the_order_of_the_others(folder: Path) -> None:
    paths = pictures(folder, "val")
    for index in (0, 5, 23):
        damage(paths[index])
    validation = loader_of(folder).split_validation()
    whole = [index for index in range(24) if index not in (0, 5, 23)]

    images = torch.cat([images for images, _ in validation])

    expected = [validation.eval_dataset[index][0] for index in whole]
    assert torch.equal(images, torch.stack(expected))
    assert validation.positions_read == whole
    assert set(validation.bad) == {0, 5, 23}


def test_a_batch_of_which_nothing_is_left_is_passed_over(folder: Path) -> None:
    for path in pictures(folder, "val")[10:20]:
        damage(path)
    validation = loader_of(folder).split_validation()

    assert [len(targets) for _, targets in validation] == [10, 4]


@pytest.fixture
def best(folder: Path, small_config: Config, config_file: ConfigFile) -> Path:
    """The best checkpoint of a run on pictures that were whole."""
    config = small_config()
    config["data_loader"]["args"] |= {"data_dir": str(folder), "on_bad_image": "skip"}
    return train.main(["-c", str(config_file(config)), "trainer.epochs=1"]).models_dir / "best.pth"


def test_results_of_a_test_count_what_was_left_out_and_name_the_right_files(
    best: Path,
    folder: Path,
    judge: Any,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge(["-r", str(best), "--out", str(tmp_path / "whole")])
    paths = pictures(folder, "test")
    inside = [damage(paths[index]) for index in (0, 12)]
    paths[20].write_bytes(b"no image")  # is seen at the start

    judge(["-r", str(best), "--out", str(tmp_path / "out")])

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    before, after = (pd.read_csv(tmp_path / name / "predictions.csv").set_index("path") for name in ("whole", "out"))
    left = [str(path) for path in paths if str(path) not in (*inside, str(paths[20]))]
    assert (metrics["num_images"], metrics["num_skipped"]) == (21, 3)
    assert list(after.index) == left
    assert after["cross_entropy"].tolist() == pytest.approx(before.loc[left, "cross_entropy"].tolist(), abs=1e-6)
    assert "\nnote: 3 images could not be read and are not counted\n" in capsys.readouterr().out


def test_where_all_can_be_read_nothing_is_said_of_it(
    best: Path,
    judge: Any,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge(["-r", str(best), "--strict", "--out", str(tmp_path / "out")])

    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_skipped"] == 0
    assert "could not be read" not in capsys.readouterr().out


@pytest.mark.parametrize("seen", ["at the start", "when it is decoded"])
def test_strict_gives_no_scores_on_fewer_images(
    best: Path,
    folder: Path,
    judge: Any,  # noqa: F811
    tmp_path: Path,
    seen: str,
) -> None:
    bad = pictures(folder, "test")[7]
    if seen == "at the start":
        bad.write_bytes(b"no image")
    else:
        damage(bad)

    with pytest.raises(DataError, match=r"^1 images cannot be read, and --strict asks for all: ") as caught:
        judge(["-r", str(best), "--strict", "--out", str(tmp_path / "out")])

    assert caught.value.exit_code == 2
    assert seen == "at the start" or str(bad) in str(caught.value)
    metrics = tmp_path / "out" / "metrics.json"
    assert metrics.exists() is (seen == "when it is decoded")  # what is known at the start costs no evaluation
    assert not metrics.exists() or not metrics.read_bytes()


def test_the_part_that_was_held_back_is_not_charged_with_files_of_the_whole_tree(
    tree_config: dict[str, Any],
    config_file: ConfigFile,
    judge: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    tree = Path(tree_config["data_loader"]["args"]["data_dir"])
    next(tree.rglob("*.png")).write_bytes(b"no image")
    tree_config["data_loader"]["args"]["on_bad_image"] = "skip"
    last = train.main(["-c", str(config_file(tree_config)), "trainer.epochs=1"]).models_dir / "last.pth"

    judge(["-r", str(last), "--strict", "--out", str(tmp_path / "out")])

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["num_skipped"] == 0
    assert metrics["num_images"] == 18


def test_a_part_of_which_nothing_can_be_read_is_one_message(best: Path, folder: Path, judge: Any) -> None:  # noqa: F811
    for path in pictures(folder, "test"):
        path.unlink() if int(path.stem) > 2 else damage(path)

    with pytest.raises(DataError, match="cannot be read"):
        judge(["-r", str(best)])
