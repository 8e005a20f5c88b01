"""cache.py: through a cache, in whichever place, a loader gives what it gives without one, bit for bit."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import train
from data_loader import cache_place
from data_loader.cache import Cache, CachedImages, CacheRules
from data_loader.data_loaders import CsvDataLoader, ImageFolderDataLoader, ShapesDataLoader
from data_loader.dataset import ImageFiles
from tests.test_stop import assert_same_result, stop_at
from utils import cache_folder
from utils.checkpoint import load_checkpoint
from utils.errors import DataError
from utils.stop import RunStopped

NUM_EACH = 12
TRAIN = [v2.Resize(12), v2.CenterCrop(10), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4)]
EVALUATION = [v2.Resize(12), v2.CenterCrop(10)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(cache_folder, "MAX_RESERVE_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def data_dir(tmp_path):
    """Two classes of pictures, each of another size."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(NUM_EACH):
            picture(tmp_path / "data" / name / f"{number:02}.png", rng)
    return tmp_path / "data"


def picture(path, rng, size=None):
    height, width = size or rng.integers(12, 30, 2)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def loader(data_dir, **options):
    given = {"transform": TRAIN, "eval_transform": EVALUATION, "batch_size": 5, "validation_split": 0.25, "seed": 3}
    return ImageFolderDataLoader(data_dir, **given | options)


def batches(one, epochs=2):
    """All images and targets of some epochs of training and validation, as bytes."""
    found = []
    for epoch in range(epochs):
        for part in (one, one.split_validation()):
            part.set_epoch(epoch)
            found += [(images.numpy().tobytes(), targets.tolist()) for images, targets in part]
    return found


@pytest.fixture
def decoded(monkeypatch):
    """The paths that are decoded in this process, in order."""
    paths, pixels = [], ImageFiles.pixels

    def counting(self, index):
        paths.append(self.sample_name(index))
        return pixels(self, index)

    monkeypatch.setattr(ImageFiles, "pixels", counting)
    return paths


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 1, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("mode", ["disk", "ram", "auto"])
def test_batches_are_the_same_with_any_cache_and_any_workers(folder, data_dir, mode, options):
    one = loader(data_dir, cache=mode, **options)

    assert isinstance(one.samples, CachedImages)
    assert batches(one) == batches(loader(data_dir, cache="off"))
    one.close()


def test_workers_that_are_started_and_not_forked_share_memory(folder, data_dir, monkeypatch):
    expected = batches(loader(data_dir, cache="off"), epochs=1)[:4]
    one = loader(data_dir, cache="ram", num_workers=1, multiprocessing_context="spawn")
    one.set_epoch(0)

    found = [(images.numpy().tobytes(), targets.tolist()) for images, targets in one]

    assert found == expected
    assert one.samples.store.num_there == 18
    monkeypatch.setattr(ImageFiles, "pixels", lambda *_: pytest.fail("decoded again"))
    assert [one.samples[int(index)][0].shape for index in one.indices] == [(3, 10, 10)] * 18


def test_each_file_is_decoded_once_and_never_again_by_later_runs(folder, data_dir, decoded):
    expected = batches(loader(data_dir, cache="off"))
    decoded.clear()

    one = loader(data_dir, cache="disk")
    batches(one)
    later = loader(data_dir, cache="disk")
    decoded_first = sorted(decoded)
    decoded.clear()

    # The first file once more for each loader, to find out the shape.
    files = sorted(str(path) for path in data_dir.glob("*/*.png"))
    assert decoded_first == [files[0]] * 2 + files
    assert batches(later) == expected
    assert decoded == []


def test_training_and_validation_share_a_file_where_they_begin_alike(folder, data_dir):
    one = loader(data_dir, cache="disk")
    other = loader(data_dir, cache="disk", transform=[v2.Resize([8, 8]), v2.RandomCrop(10, padding=2)])

    assert one.samples.store is one.eval_dataset.store
    assert other.samples.store is not other.eval_dataset.store
    assert len(list(folder.iterdir())) == 2
    assert one.notes == [
        f"{data_dir}: pixels after Resize, CenterCrop are cached in {one.samples.store.path.parent} (0.0 MB, 0 of 24 "
        f"images there already)"
    ]
    assert len(other.notes) == 2


def test_evaluation_takes_whole_batches_once_all_is_there(folder, data_dir, monkeypatch):
    validation = loader(data_dir, cache="disk").split_validation()
    first = [(images.clone(), targets.clone()) for images, targets in validation]
    monkeypatch.setattr(CachedImages, "__getitem__", lambda *_: pytest.fail("one by one"))

    again = list(validation)

    assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(first, again, strict=True))


@pytest.mark.parametrize("mode", ["disk", "ram"])
def test_a_file_that_changes_during_a_run_is_read_as_it_is_now(folder, data_dir, mode):
    one = loader(data_dir, cache=mode)
    batches(one)

    for index in (one.indices[0], one.validation_indices[0]):  # one by one, and in a batch
        path = Path(one.samples.sample_name(int(index)))
        picture(path, np.random.default_rng(9), (40, 40))
    changed = batches(one)
    found = batches(loader(data_dir, cache="off"))
    path.unlink()

    assert changed == found
    with pytest.raises(DataError, match=rf"{path}: no such file"):
        batches(one)


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(folder, data_dir, monkeypatch):
    one, path = loader(data_dir, cache="disk"), sorted(data_dir.glob("*/*.png"))[1]
    pixels = ImageFiles.pixels

    def changing(self, index):
        image = pixels(self, index)
        if self.sample_name(index) == str(path):
            os.utime(path, (1, 1))
        return image

    monkeypatch.setattr(ImageFiles, "pixels", changing)
    one.samples[1]

    assert one.samples.store.read(1) is None


@pytest.mark.parametrize("change", ["other pixels", "other time", "added", "removed", "renamed", "touched and back"])
def test_a_later_run_on_other_files_takes_another_cache(folder, data_dir, change, decoded):
    before = loader(data_dir, cache="disk")
    batches(before)
    path = sorted(data_dir.glob("*/*.png"))[3]
    old_ns = path.stat().st_mtime_ns
    if change == "other pixels":
        picture(path, np.random.default_rng(9), (40, 40))
    elif change == "other time":
        os.utime(path, ns=(old_ns, old_ns + 1))
    elif change == "added":
        shutil.copy2(path, path.with_name("zz.png"))
    elif change == "removed":
        path.unlink()
    elif change == "renamed":
        path.rename(path.with_name("zz.png"))
    else:
        os.utime(path)
        os.utime(path, ns=(old_ns, old_ns))

    later = loader(data_dir, cache="disk")

    assert (later.samples.store.path == before.samples.store.path) == (change == "touched and back")
    assert batches(later) == batches(loader(data_dir, cache="off"))


def test_a_copy_of_the_folder_with_its_times_shares_the_cache(folder, data_dir, tmp_path, decoded):
    batches(loader(data_dir, cache="disk"))
    shutil.copytree(data_dir, tmp_path / "copy")  # keeps times of change
    decoded.clear()

    batches(loader(tmp_path / "copy", cache="disk"))

    assert decoded == [str(tmp_path / "copy" / "ant" / "00.png")]  # to find out the shape


def test_other_settings_take_another_cache(folder, data_dir):
    options = [
        {},
        {"transform": [v2.Resize(13), v2.CenterCrop(10)]},
        {"channels": 1},
    ]

    stores = [loader(data_dir, cache="disk", **one).samples.store.path for one in options]

    assert len(set(stores)) == 3


@pytest.mark.parametrize("mode", ["off", "disk", "ram"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_passed_over_alike_and_never_kept(folder, data_dir, mode, num_workers):
    for path in (data_dir / "ant" / "03.jpg", data_dir / "bee" / "05.jpg"):
        memory = io.BytesIO()
        Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(memory, "PNG")
        content = bytearray(memory.getvalue())
        content[60] ^= 255  # in the middle: its two ends look whole
        path.write_bytes(content)
    one = loader(data_dir, cache=mode, num_workers=num_workers, on_bad_image="skip")
    expected = batches(loader(data_dir, cache="off", on_bad_image="skip"))

    assert batches(one) == expected
    if mode != "off":
        bad = [index for index in range(len(one.samples)) if one.samples.sample_name(index).endswith(".jpg")]
        assert len(bad) == 2
        assert [one.samples.store.read(index) for index in bad] == [None, None]


def test_every_loader_of_files_takes_the_options(folder, data_dir, shapes_dir, tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in sorted(data_dir.glob("*/*.png")))
    )
    table = CsvDataLoader(tmp_path / "list.csv", image_size=8, cache="disk")
    shapes = {"num_classes": 3, "train_per_class": 24, "val_per_class": 8, "test_per_class": 8, "image_size": 16}

    drawn = ShapesDataLoader(shapes_dir, **shapes, cache="ram")

    assert isinstance(table.samples, CachedImages)
    assert isinstance(drawn.samples, CachedImages)
    assert isinstance(drawn.split_validation().samples, CachedImages)
    assert batches(drawn) == batches(ShapesDataLoader(shapes_dir, **shapes, cache="off"))


def test_auto_takes_memory_where_the_disk_cannot_be_used(folder, data_dir):
    folder.write_bytes(b"a file in the way")

    one = loader(data_dir, cache="auto")

    assert "are cached in memory" in one.notes[0]
    assert "Not a directory" in one.notes[0]
    assert batches(one) == batches(loader(data_dir, cache="off"))


def test_disk_where_it_cannot_be_used_is_a_line_and_no_cache(folder, data_dir):
    folder.write_bytes(b"a file in the way")

    one = loader(data_dir, cache="disk")

    assert [note.partition(": ")[2] for note in one.notes] == [
        f"pixels after Resize, CenterCrop are not cached: {one.notes[0].rpartition('cached: ')[2]}"
    ]
    assert isinstance(one.samples, ImageFiles)


def test_auto_without_room_anywhere_decodes(folder, data_dir):
    one = loader(data_dir, cache="auto", cache_limit_gb=1e-9)

    assert isinstance(one.samples, ImageFiles)
    assert len(one.notes) == 1
    assert not folder.exists()


def test_two_parts_in_memory_share_what_there_is(folder, data_dir, monkeypatch):
    one = loader(data_dir, cache="ram")
    twice = one.samples.store.num_bytes * 4 - 2  # half of it is not enough for two
    monkeypatch.setattr("data_loader.cache.available_bytes", lambda: twice)

    other = loader(data_dir, cache="ram", transform=[v2.Resize([10, 10]), v2.RandomHorizontalFlip()])

    assert [type(other.samples), type(other.eval_dataset)] == [CachedImages, ImageFiles]


def test_auto_keeps_nothing_for_a_test(folder, data_dir):
    assert isinstance(loader(data_dir, cache="auto", training=False).samples, ImageFiles)
    assert isinstance(loader(data_dir, cache="disk", training=False).samples, CachedImages)


def test_images_of_different_sizes_are_decoded_and_said(folder, data_dir):
    one = loader(data_dir, cache="auto", transform=[v2.RandomResizedCrop(10)])

    assert isinstance(one.samples, ImageFiles)
    assert isinstance(one.eval_dataset, CachedImages)
    assert "pixels as decoded are not cached: they differ in size" in one.notes[0]


def test_an_image_of_another_size_than_those_looked_at_is_decoded_each_time(folder, tmp_path):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(40)]
    for number, path in enumerate(paths):
        picture(path, rng, (9, 9) if number == 1 else (8, 8))
    files = ImageFiles(paths, [0] * 40, ["a"])

    seen = Cache(CacheRules("disk"), [], training=True).seen_through(files, [])

    for _ in range(2):
        assert all(torch.equal(seen[index][0], files[index][0]) for index in range(40))
    assert seen.store.num_there == 39


def test_a_class_of_ones_own_is_not_cached(folder, data_dir):
    class Turned(ImageFiles):
        def pixels(self, index):
            return super().pixels(index).flip(1)

    files = Turned([str(path) for path in data_dir.glob("*/*.png")], [0] * 24, ["a"])

    assert type(Cache(CacheRules("disk"), [], training=True).seen_through(files, EVALUATION)) is Turned


# --- whole runs ----------------------------------------------------------------------------------------------------


def run_config(small_config, data_dir, mode, **trainer):
    config = small_config()
    listed = [{"type": "Resize", "args": {"size": 18}}, {"type": "CenterCrop", "args": {"size": 16}}]
    config["data_loader"]["args"] |= {
        "data_dir": str(data_dir),
        "cache": mode,
        "transform": [*listed, "RandomHorizontalFlip"],
        "eval_transform": listed,
        "validation_split": 0.25,
        "on_bad_image": "skip",
    }
    config["trainer"] |= trainer
    return config


def spoil(data_dir):
    path = data_dir / "ant" / "07.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_runs_are_equal_bit_for_bit_with_any_cache_and_any_workers(folder, data_dir, small_config, config_file):
    spoil(data_dir)
    path = str(config_file(run_config(small_config, data_dir, "off", epochs=2)))
    whole = train.main(["-c", path])

    for mode, num_workers in (("disk", 2), ("disk", 0), ("ram", 2)):  # the second time from what the first left
        words = [f"data_loader.args.cache={mode}", f"data_loader.args.num_workers={num_workers}"]
        assert_same_result(whole, train.main(["-c", path, *words]))


def test_a_run_goes_on_within_an_epoch_after_its_cache_was_removed(
    folder, data_dir, small_config, config_file, monkeypatch
):
    path = str(config_file(run_config(small_config, data_dir, "off")))
    whole = train.main(["-c", path])
    with monkeypatch.context() as patch:
        stop_at(patch, 3)  # of two steps an epoch
        with pytest.raises(RunStopped):
            train.main(["-c", path, "name=stopped", "data_loader.args.cache=disk"])
    assert len(list(folder.iterdir())) == 1
    shutil.rmtree(folder)

    last = whole.recorder.run.save_dir / "models" / "last.pth"
    continued = train.main(["-r", str(last), "data_loader.args.cache=auto", "data_loader.args.num_workers=2"])

    assert load_checkpoint(continued.recorder.run.models / "last.pth")["steps_done"] == 6
    assert_same_result(whole, continued)


def test_a_disk_that_fills_up_during_a_run_changes_no_result(folder, data_dir, small_config, config_file, monkeypatch):
    path = str(config_file(run_config(small_config, data_dir, "off", epochs=2)))
    whole = train.main(["-c", path])
    pwrite, written = os.pwrite, []

    def until_full(number, content, offset):
        written.append(len(content))
        if sum(written) > 5_000:
            raise OSError(28, "No space left on device")
        return pwrite(number, content, offset)

    monkeypatch.setattr(os, "pwrite", until_full)

    trainer = train.main(["-c", path, "data_loader.args.cache=disk"])

    assert_same_result(whole, trainer)
    log = (trainer.recorder.run.log / "info.log").read_text()
    assert log.count("no more pixels are cached (No space left on device)") == 1


def test_the_decision_is_in_the_log(folder, data_dir, small_config, config_file):
    trainer = train.main(["-c", str(config_file(run_config(small_config, data_dir, "auto", epochs=1)))])

    log = (trainer.recorder.run.log / "info.log").read_text()

    assert log.count("pixels after Resize, CenterCrop are cached in") == 1


def test_a_damaged_file_is_mended_by_the_next_run(folder, data_dir, decoded):
    expected = batches(loader(data_dir, cache="off"))
    batches(loader(data_dir, cache="disk"))
    (path,) = folder.glob("*/pixels.bin")
    os.truncate(path, path.stat().st_size - 1)

    one = loader(data_dir, cache="disk")

    assert one.notes[0] == f"{path}: damaged, or of another version; made anew"
    assert batches(one) == expected


def test_a_version_that_changed_takes_another_cache(folder, data_dir, monkeypatch):
    first = loader(data_dir, cache="disk").samples.store.path
    monkeypatch.setattr("data_loader.cache.made_by", lambda: {"pillow": "0"})

    assert loader(data_dir, cache="disk").samples.store.path != first


def test_memory_that_is_refused_is_a_reason(folder, data_dir, monkeypatch):
    monkeypatch.setattr(cache_place.os, "memfd_create", lambda *_: (_ for _ in ()).throw(OSError(12, "no memory")))

    assert loader(data_dir, cache="ram").notes[0].endswith("are not cached: memory: no memory")


def test_advice_can_see_what_was_asked_for(folder, data_dir):
    assert [loader(data_dir, cache=mode).cache for mode in ("off", "ram", "auto")] == ["off", "ram", "auto"]
