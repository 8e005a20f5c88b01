"""The page as text: nothing a stranger wrote becomes markup, it is small, and it asks for nothing."""

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from logger.judgement import Judgement
from logger.report.page import FOLDER, Report, render, write_report
from tests.judged import image_of, judgement_of, scores_of
from utils.errors import OutputError

VOID = {"meta", "link", "img", "br", "input"}
EVIL = '</script><img src="https://evil.example/x.png" onerror=alert(1)>'
HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(2)',
    "</script><script>alert(3)</script>",
    "' autofocus onfocus='alert(4)",
    "한국어 클래스",
    "x" * 5000,
    "two\nlines",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe",
    "a\0b",
    "\udcff\ud800",
    "&lt;b&gt;&amp;",
]


class Page(HTMLParser):
    """What a browser would see of a page: elements with their attributes, and text; every element must be closed."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open  # elsewhere a slash at the end closes nothing
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]][-1] += data
        else:
            self.texts.append(data)

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.elements for key, value in attrs.items() if key == name]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def data(self) -> Any:
        at = [attrs.get("id") for tag, attrs in self.elements if tag == "script"].index("data")
        return json.loads(self.inside["script"][at])


def report_of(classes: list[str], num_images: int, sure: float = 1.5, **functions: Callable[[int], Any]) -> Report:
    judgement = judgement_of(classes, num_images, sure=sure, **functions)
    history = [
        {"epoch": epoch, "lr": 0.1, "train/loss": 1 / epoch, "val/loss": math.nan if epoch == 2 else 2 / epoch}
        for epoch in range(1, 6)
    ]
    return Report(
        "shapes/20260101_120000",
        {"data": "data/shapes: 10 training images"},
        judgement,
        scores_of(judgement),
        history,
        4,
        {"name": "shapes", "arch": {"type": "VGG"}},
        {"versions": {"torch": "2.15.0"}, "gpus": []},
        ["python train.py -c config.json"],
        ["too few images"],
        {"images/s": 1234.5},
    )


def hostile_report() -> Report:
    def image_or_not(position: int) -> torch.Tensor:
        if position % 3 == 0:
            raise OSError(EVIL)
        return image_of(position)

    def name_of(position: int) -> str:
        return f"/data/{EVIL}/\udcfe{HOSTILE[position % len(HOSTILE)]}-{position}.png"

    report = report_of(HOSTILE, 300, image_of=image_or_not, name_of=name_of)
    return replace(
        report,
        title=EVIL,
        facts={EVIL: EVIL, "odd": "\udcff"},
        history=[{"epoch": 1, f"val/{EVIL}": 0.5}],
        config={EVIL: EVIL, "odd": "\udcff"},
        environment={EVIL: {EVIL: [EVIL]}},
        commands=[EVIL, "\udcff"],
        warnings=[EVIL],
        speed={EVIL: EVIL},
        overlays={position: EVIL.encode() for position in range(300)},
    )


def test_the_page_says_what_the_report_says() -> None:
    report = report_of(["ant", "bee", "잠자리"], 90)
    assert report.judgement is not None

    page = Page(render(report))

    text = " ".join(page.text.split())
    for said in ("shapes/20260101_120000", "data/shapes: 10 training images", "too few images", "1234.5", "2.15.0"):
        assert said in text
    for said in ("python train.py -c config.json", '"type": "VGG"', "잠자리", "best epoch, 4", "macro f1"):
        assert said in text
    accuracy = (report.judgement.true_N == report.judgement.predicted_N).mean()
    assert f"accuracy{accuracy:.4f}" in text.replace(" ", "")
    num_wrong = int((report.judgement.true_N != report.judgement.predicted_N).sum())
    assert f"{num_wrong}of 90 images" in text
    assert (
        len([tag for tag, attrs in page.elements if (attrs.get("id") or "").startswith("picture")])
        == min(48, num_wrong) + 1
    )


def test_every_cell_shows_its_count_and_knows_its_images() -> None:
    report = report_of(["a", "b", "c"], 200)
    assert report.scores is not None
    assert report.judgement is not None

    text = render(report)

    shown = {
        (int(t), int(p)): int(count)
        for t, p, count in re.findall(r'data-cell="(\d+) (\d+)"><span class="count">(\d+)<', text)
    }
    confusion = report.scores.confusion_KK
    assert shown == {(t, p): confusion[t, p] for t in range(3) for p in range(3) if confusion[t, p]}
    data = Page(text).data
    assert {(t, p): count for t, p, count, _ in data["cells"]} == shown
    for t, p, _, images in data["cells"]:
        for position, name, confidence in images:
            assert (report.judgement.true_N[position], report.judgement.predicted_N[position]) == (t, p)
            assert data["folder"] + name == report.judgement.name_of(position)
            assert confidence == pytest.approx(report.judgement.confidence_N[position], abs=1e-4)


def test_what_strangers_wrote_is_text() -> None:
    text = render(hostile_report())

    page = Page(text)

    assert {tag for tag, _ in page.elements} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "link",
            "style",
            "body",
            "header",
            "main",
            "nav",
            "section",
            "div",
            "p",
            "a",
        ),
        *(
            "h1",
            "h2",
            "h3",
            "ul",
            "li",
            "dl",
            "dt",
            "dd",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "span",
            "strong",
        ),
        *(
            "b",
            "i",
            "bdi",
            "small",
            "figure",
            "figcaption",
            "svg",
            "line",
            "path",
            "circle",
            "rect",
            "text",
            "img",
            "pre",
        ),
        *("details", "summary", "dialog", "button", "script"),
    }
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "style"]
    assert len(page.inside["script"]) == 2
    assert len(page.inside["style"]) == 1
    assert page.text.count(EVIL) >= 9
    assert "{{ 7 * 7 }}{% raw %}" in page.text
    assert "two\\nlines" in page.text
    assert "\\u202egnp.exe" in page.text
    assert "한국어 클래스" in page.text
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", html.unescape(text))


def test_the_page_asks_for_nothing() -> None:
    page = Page(render(hostile_report()))

    links = [*page.attributes("src"), *page.attributes("href")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not {"srcset", "action", "data", "formaction", "background", "ping", "poster"} & {
        name for _, attrs in page.elements for name in attrs
    }
    assert "url(" not in page.inside["style"][0]
    assert "@import" not in page.inside["style"][0]
    assert not [attrs for tag, attrs in page.elements if tag == "meta" and attrs.get("http-equiv") == "refresh"]
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.attributes("href") if link.startswith("#")} <= set(ids)


def test_the_policy_allows_what_stands_in_the_page_and_nothing_else() -> None:
    page = Page(render(report_of(["a", "b"], 20)))

    (policy,) = [
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    hashes = {
        name: "'sha256-" + base64.b64encode(hashlib.sha256(page.inside[name][-1].encode()).digest()).decode() + "'"
        for name in ("script", "style")
    }
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("name", ["page.js", "style.css"])
def test_what_is_put_in_unescaped_cannot_end_its_element(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")

    assert "</" not in text
    assert "<!--" not in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|fetch|XMLHttp", text)


def test_a_picture_is_a_picture_or_a_placeholder() -> None:
    page = Page(render(hostile_report()))

    images = page.attributes("src")
    assert images
    for uri in images:
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            image.load()
    assert sum(attrs.get("class") == "gone" for _, attrs in page.elements) == 48 - len(images)
    assert 0 < len(images) < 48


def test_an_overlay_stands_beside_its_picture() -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    report = report_of(["a", "b"], 60)
    position = next(
        int(key.removeprefix("picture")) for key in Page(render(report)).attributes("id") if re.match(r"picture\d", key)
    )

    page = Page(render(replace(report, overlays={position: buffer.getvalue()})))

    alts = page.attributes("alt")
    assert alts[:2] == [f"{position:05d}.png", "where it looked"]
    assert alts.count("where it looked") == 1


def test_classes_that_were_never_predicted_are_a_warning() -> None:
    report = report_of(["a", "b", "c"], 50)
    assert report.scores is not None

    text = Page(render(replace(report, scores=replace(report.scores, never_predicted=[1, 2])))).text

    assert "never predicted, though there are images of it: b, c" in text


def test_what_is_empty_is_left_out() -> None:
    page = Page(render(Report("empty", {})))

    assert "empty" in page.text
    assert not {"curves", "pictures", "matrix", "classes", "calibration", "speed", "config"} & set(
        page.attributes("id")
    )


def test_no_mistake_and_no_image_are_pages_too() -> None:
    report = report_of(["a", "b"], 30, sure=50.0)
    assert "No mistake in 30 images" in Page(render(report)).text

    assert report.judgement is not None
    none = replace(
        report.judgement, true_N=report.judgement.true_N[:0], probabilities_NK=report.judgement.probabilities_NK[:0]
    )
    assert "mistakes" not in Page(render(replace(report, judgement=none))).text


def test_the_same_report_is_the_same_page() -> None:
    assert render(report_of(["a", "b"], 40)) == render(report_of(["a", "b"], 40))


def test_forty_classes_are_a_table_and_more_are_points() -> None:
    forty = Page(render(report_of([f"class {index}" for index in range(40)], 400)))
    more = Page(render(report_of([f"class {index}" for index in range(41)], 400)))

    assert "canvas" not in {tag for tag, _ in forty.elements}
    assert "canvas" in {tag for tag, _ in more.elements}
    assert sum("data-h" in attrs for _, attrs in forty.elements) == 1600
    assert sum("data-h" in attrs for _, attrs in more.elements) == 0


def test_a_thousand_classes_and_fifty_thousand_images_stay_small(tmp_path: Path) -> None:
    def noise(position: int) -> torch.Tensor:  # the largest JPEGs there are
        generator = torch.Generator().manual_seed(position)
        return torch.randint(0, 256, (3, 200, 200), generator=generator, dtype=torch.uint8)

    names = [f"n{index:08d} {'매우 긴 이름 ' * 40}" for index in range(1000)]
    guess_N, at_N = np.random.default_rng(0).integers(0, 1000, 50_000), np.arange(50_000)
    probabilities_NK = np.zeros((50_000, 1000), dtype=np.float32)
    probabilities_NK[at_N, guess_N] = 0.5
    judgement = Judgement(
        names, at_N % 1000, probabilities_NK, at_N / 1e4, lambda at: f"/data/{at:040d}/{'긴' * 80}.png", noise
    )
    report = replace(report_of(["a", "b"], 20), judgement=judgement, scores=scores_of(judgement))

    write_report(tmp_path / "report.html", report)

    assert (tmp_path / "report.html").stat().st_size <= 10_000_000


def test_ten_thousand_images_take_less_than_ten_seconds(tmp_path: Path) -> None:
    report = report_of([f"class {index}" for index in range(10)], 10_000)
    began = time.process_time()

    write_report(tmp_path / "report.html", report)

    assert time.process_time() - began < 10


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, report = tmp_path / "report.html", report_of(["a", "b"], 20)
    path.write_text("before")

    def no_space(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OutputError, match="the report"):
            write_report(path, report)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "before"

    write_report(path, report)
    assert path.read_text(encoding="utf-8") == render(report)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"report\.html: cannot write the report"):
        write_report(tmp_path / "none" / "report.html", Report("x", {}))
