"""Words to pictures: files, folders, patterns, lists; and the loader over them."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from data_loader.collate import pad_to_largest
from data_loader.listed import list_files, open_listed
from data_loader.paths import PathList
from data_loader.recorded import PixelPath
from utils.errors import ConfigError, DataError


def listed(*words: Any, text: bytes = b"") -> list[str]:
    return list(list_files([str(word) for word in words], io.BytesIO(text)).paths)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "sub/c.webp", "sub/deep/d.bmp", ".hidden/e.png", ".f.png", "notes.txt", "sub/g.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_gives_its_pictures_before_those_of_the_folders_in_it(tree: Path) -> None:
    found = listed(tree)

    assert found == [str(tree / name) for name in ("a.JPG", "b.png", "sub/c.webp", "sub/deep/d.bmp")]


def test_links_in_a_circle_and_twice_are_followed_once(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "h.png").write_bytes(b"")
    (tree / "sub" / "back").symlink_to(tree)
    (tree / "one").symlink_to(elsewhere)
    (tree / "two").symlink_to(elsewhere)

    found = listed(tree)

    assert [Path(path).name for path in found] == ["a.JPG", "b.png", "h.png", "c.webp", "d.bmp"]


def test_patterns_go_deep_and_a_name_that_looks_like_one_is_a_name(tree: Path) -> None:
    (tree / "x[1].png").write_bytes(b"")

    assert listed(tree / "**" / "*.bmp") == [str(tree / "sub" / "deep" / "d.bmp")]
    assert listed(tree / "x[1].png") == [str(tree / "x[1].png")]
    assert listed(tree / "su*") == [str(tree / "sub" / "c.webp"), str(tree / "sub" / "deep" / "d.bmp")]


def test_what_is_named_is_taken_whatever_it_is_and_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)

    listing = list_files(["notes.txt", "gone.png", "b.png", "./b.png", str(tree / "b.png")], io.BytesIO())

    assert list(listing.paths) == ["notes.txt", "gone.png", "b.png"]
    assert listing.num_repeated == 2


def test_a_list_may_have_lines_or_nul_bytes(tree: Path) -> None:
    assert listed("-", text=b"a\r\nb\n\nc d\n") == ["a", "b", "c d"]
    assert listed("-", text=b"a\nb\0c\r\0") == ["a\nb", "c\r"]
    assert listed("-", text=b"caf\xe9.png") == [os.fsdecode(b"caf\xe9.png")]
    assert listed("-", text=str(tree).encode())[0] == str(tree / "a.JPG")


def test_problems_are_told_beside_what_is_found(tree: Path) -> None:
    (tree / "none").mkdir()

    listing = list_files([str(tree / "none"), str(tree / "*.tif"), "-", str(tree / "b.png")], io.BytesIO())

    assert [name for name, _ in listing.problems] == [str(tree / "none"), str(tree / "*.tif"), "-"]
    assert len(listing.paths) == 1
    with pytest.raises(DataError, match="no pictures to look at"):
        listed(tree / "none")


def pictures(folder: Path, sizes: list[tuple[int, int]]) -> PathList:
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")
    return PathList.of([str(folder / f"{number}.png") for number in range(len(sizes))])


def pixels(*transforms: Any, batch_size: int = 3) -> PixelPath:
    return PixelPath(3, False, list(transforms), batch_size, (3, 8, 8))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_size_of_a_batch_comes_by_itself_with_its_positions(tmp_path: Path, num_workers: int) -> None:
    paths = pictures(tmp_path, [(8, 8), (9, 8), (8, 8), (9, 8), (9, 8)])
    (tmp_path / "2.png").write_bytes(b"")

    loader = open_listed(paths, pixels(), num_workers=num_workers)
    groups = [[(tuple(images.shape), positions.tolist()) for images, positions in batch] for batch in loader]

    assert groups == [[((1, 3, 8, 8), [0]), ((1, 3, 8, 9), [1])], [((2, 3, 8, 9), [3, 4])]]
    assert list(loader.bad) == [2]
    assert [int(images[0, 0, 0, 0]) for batch in loader for images, _ in batch] == [0, 1, 3]


def test_a_collate_function_of_the_config_is_used(tmp_path: Path) -> None:
    loader = open_listed(pictures(tmp_path, [(8, 8), (9, 7)]), pixels(), collate=pad_to_largest)

    ((images, positions),) = next(iter(loader))

    assert images.shape == (2, 3, 8, 9)
    assert positions.tolist() == [0, 1]


def test_many_bad_pictures_are_no_reason_to_stop(tmp_path: Path) -> None:
    paths = pictures(tmp_path, [(8, 8)] * 40)
    for number in range(39):
        (tmp_path / f"{number}.png").write_bytes(b"")

    loader = open_listed(paths, pixels())

    assert [positions.tolist() for batch in loader for _, positions in batch] == [[39]]
    assert len(loader.bad) == 39


def test_what_a_transform_cannot_do_is_said_of_the_picture(tmp_path: Path) -> None:
    class Picky(v2.Transform):
        def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
            if inpt.shape[-1] > 8:
                raise ValueError("too wide")
            return inpt

    loader = open_listed(pictures(tmp_path, [(8, 8), (9, 8)]), pixels(Picky()))

    assert [positions.tolist() for batch in loader for _, positions in batch] == [[0]]
    assert loader.bad == {1: f"{tmp_path / '1.png'}: a transform cannot take its 8x9 pixels (too wide)"}


def test_pictures_are_decoded_as_in_training(tmp_path: Path) -> None:
    Image.fromarray(torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy()).save(tmp_path / "x.jpg")
    paths, path = PathList.of([str(tmp_path / "x.jpg")]), pixels(v2.Resize((8, 8)))
    grey_and_small = PixelPath(1, True, path.transforms, 1, (1, 8, 8))

    ((whole, _),), ((scaled, _),) = (next(iter(open_listed(paths, one))) for one in (path, grey_and_small))

    assert (whole.shape, scaled.shape) == ((1, 3, 8, 8), (1, 1, 8, 8))
    assert open_listed(paths, grey_and_small).samples.reduction(64, 64) == 4


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"num_workers": -1}])
def test_fewer_than_none_is_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        open_listed(pictures(tmp_path, [(8, 8)]), pixels(), **wrong)
