"""Thumbnails within budgets."""

import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from logger.report import pictures
from logger.report.pictures import overlay, thumbnail, thumbnails
from tests.judged import image_of, judgement_of


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_is_kept_as_it_is(channels: int) -> None:
    image_CHW = torch.randint(0, 256, (channels, 20, 28), dtype=torch.uint8)

    uri = thumbnail(image_CHW)

    assert uri.startswith("data:image/png;base64,")
    pixels = torch.tensor(list(opened(uri).convert("RGB").tobytes())).view(20, 28, 3)
    assert (pixels.permute(2, 0, 1) == image_CHW.expand(3, -1, -1)).all()


@pytest.mark.parametrize("size", [(400, 300), (64, 1000), (128, 128), (1, 5000)])
def test_a_large_image_is_made_smaller_in_its_shape(size: tuple[int, int]) -> None:
    height, width = size

    uri = thumbnail(torch.full((3, height, width), 100, dtype=torch.uint8))

    small = opened(uri)
    assert uri.startswith("data:image/jpeg;base64,")
    assert max(small.size) == pictures.SIDE_PX
    assert small.width / width == pytest.approx(small.height / height, abs=0.01) or min(small.size) == 1
    assert abs(small.convert("RGB").getpixel((0, 0))[0] - 100) < 4  # type: ignore[index]


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)]
)
def test_what_is_no_picture_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="no picture"):
        thumbnail(image)


def test_an_image_that_is_gone_has_no_picture_and_the_rest_have(tmp_path: Path) -> None:
    def fails(position: int) -> torch.Tensor:
        if position == 1:
            raise FileNotFoundError(tmp_path / "gone.png")
        return image_of(position) if position else torch.zeros(5, 5, 5, dtype=torch.uint8)

    uris = thumbnails(judgement_of(["a", "b"], 9, image_of=fails), [0, 1, 2], [1, 3])

    assert list(uris) == [0, 1, 2, 3]
    assert [bool(uri) for uri in uris.values()] == [False, False, True, True]


def test_pictures_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(position: int) -> torch.Tensor:
        asked.append(position)
        return image_of(position)

    judgement = judgement_of(["a", "b"], 99, image_of=counted)
    monkeypatch.setattr(pictures, "MAX_PICTURES", 10)
    assert list(thumbnails(judgement, range(4), range(50))) == list(range(10))
    assert asked == list(range(10))  # each is read once

    monkeypatch.setattr(pictures, "MAX_PICTURES", 1000)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 5 * 64 * 64 - 1)
    assert len(thumbnails(judgement, range(4), range(50))) == 4 + 5

    monkeypatch.setattr(pictures, "MAX_PIXELS", 10**9)
    monkeypatch.setattr(pictures, "MAX_BYTES", 20_000)
    uris = thumbnails(judgement, range(4), range(50))
    assert 20_000 < sum(map(len, uris.values())) < 25_000


def test_an_overlay_is_made_small_and_what_is_none_is_left_out() -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGBA").save(buffer, "PNG")

    assert max(opened(overlay(buffer.getvalue())).size) == pictures.SIDE_PX
    assert overlay(b"<svg onload=alert(1)>") == ""
    assert overlay(buffer.getvalue()[:100]) == ""
