"""The data doctor on folders with every kind of fault, against plain counting, hashlib, numpy and shutil."""

import csv
import hashlib
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.check_data import main, read_words
from utils.errors import ConfigError, DataError, OutputError

ROOT = Path(__file__).resolve().parent.parent
EVIL = '<script>alert("x")<&\'>'
ESCAPE = "red\x1b[31m\u202egpj"


def pattern(seed, size=(40, 32)):
    """A smooth colour picture that is like no other seed's: noise of 6x5 places, drawn large."""
    values_HWC = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(values_HWC).resize(size, Image.Resampling.BICUBIC)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def clean(tmp_path):
    """Two parts, two classes, six different pictures in each."""
    folder = tmp_path / "clean"
    for number in range(24):
        part, label = ("train", "test")[number % 2], ("cat", "dog")[number // 2 % 2]
        save(folder / part / label / f"{number:02}.png", pattern(number))
    return folder


@pytest.fixture
def faulty(clean):
    """The same with one of each fault."""
    cats, dogs, tests = clean / "train" / "cat", clean / "train" / "dog", clean / "test" / "cat"
    whole = save(clean.parent / "whole.jpg", pattern(99, (200, 160)), quality=90).read_bytes()
    (cats / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (cats / "nothing.jpg").write_bytes(b"")
    (cats / "page.jpg").write_text("<!doctype html><p>404")
    (cats / "moving.jpg").write_bytes(b"GIF89a" + bytes(40))
    (cats / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (cats / "notes.txt").write_text("hello")
    (cats / "picture.dat").write_bytes(whole)
    (cats / ".hidden.jpg").write_bytes(whole)
    (cats / "really_a.png").write_bytes(whole)
    shutil.copy(cats / "00.png", cats / "copy within.png")
    shutil.copy(dogs / "02.png", clean / "test" / "dog" / "copy across.png")
    shutil.copy(cats / "04.png", dogs / "copy under another label.png")
    save(tests / "nearly.jpg", pattern(8).resize((80, 64)), quality=80)  # of train/cat/08.png
    save(dogs / "black.png", Image.new("RGB", (40, 40)))
    save(dogs / "tiny.png", pattern(50, (40, 9)))
    first, second = pattern(51), pattern(52)
    save(dogs / "animated.webp", first, save_all=True, append_images=[second], lossless=True)
    return clean


def report_of(folder, tmp_path, *words, code=1):
    out = tmp_path / "out"
    assert main(["--out", str(out), "--processes", "1", str(folder), *words]) == code
    return json.loads((out / "data_report.json").read_text(encoding="utf-8"))


def found_in(report):
    """{kind: (level, names of files, or sets of names)}."""
    return {
        one["kind"]: (
            one["level"],
            [Path(file["path"]).name for file in one["files"]]
            or [{Path(file["path"]).name for file in group} for group in one["groups"]],
        )
        for one in report["findings"]
    }


def test_each_fault_is_found_by_name_and_nothing_else_is(faulty, tmp_path):
    found = found_in(report_of(faulty, tmp_path))

    assert found == {
        "empty_file": ("error", ["nothing.jpg"]),
        "truncated": ("error", ["cut.jpg"]),
        "not_an_image": ("error", ["moving.jpg", "page.jpg"]),
        "undecodable": ("error", ["broken.png"]),
        "left_out": ("warning", ["picture.dat"]),
        "single_colour": ("warning", ["black.png"]),
        "tiny": ("warning", ["tiny.png"]),
        "duplicates_two_labels": ("warning", [{"04.png", "copy under another label.png"}]),
        "duplicates_across_parts": ("warning", [{"02.png", "copy across.png"}]),
        "duplicates_within_part": ("warning", [{"00.png", "copy within.png"}]),
        "near_duplicates_across_parts": ("warning", [{"08.png", "nearly.jpg"}]),
        "wrongly_named": ("note", ["really_a.png"]),
        "animated": ("note", ["animated.webp"]),
        "not_used": ("note", ["notes.txt"]),
        "hidden": ("note", [".hidden.jpg"]),
    }


def test_nothing_is_said_of_a_clean_set_and_nothing_in_it_is_touched(clean, tmp_path, capsys):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in clean.rglob("*") if path.is_file()}

    report = report_of(clean, tmp_path, code=0)

    assert report["findings"] == []
    assert "nothing is wrong" in capsys.readouterr().out
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in clean.rglob("*") if path.is_file()}
    assert after == before


def test_counts_are_those_of_the_folders(faulty, tmp_path):
    report = report_of(faulty, tmp_path)

    for part in ("train", "test"):
        for label in ("cat", "dog"):
            files = [path.name for path in (faulty / part / label).iterdir()]
            images = [name for name in files if name[0] != "." and not name.endswith((".txt", ".dat"))]
            assert report["counts"][part][label] == len(images)
    assert report["images"] == sum(map(sum, (counts.values() for counts in report["counts"].values())))
    assert report["decoded"] == report["images"] - 5


def test_mean_and_std_are_those_of_fully_decoded_pixels(clean, tmp_path):
    save(clean / "train" / "dog" / "grey.png", pattern(70).convert("L"))
    save(clean / "train" / "dog" / "photo.jpg", pattern(71, (333, 217)), quality=90)

    report = report_of(clean, tmp_path, code=0)

    moments = []
    for path in (clean / "train").rglob("*.*"):
        pixels_PC = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3) / 255.0
        moments.append((pixels_PC.mean(0), (pixels_PC**2).mean(0)))
    mean_C, square_C = np.mean(moments, axis=0)
    # The report has six decimals.
    assert report["pixels"]["train"]["mean"] == pytest.approx(mean_C, abs=1e-6)
    assert report["pixels"]["train"]["std"] == pytest.approx(np.sqrt(square_C - mean_C**2), abs=1e-6)


def test_large_jpegs_are_decoded_smaller_and_that_is_said(clean, tmp_path):
    path = save(clean / "train" / "dog" / "large.jpg", pattern(72, (2400, 1600)), quality=90)
    (clean / "train" / "dog" / "large cut.jpg").write_bytes(path.read_bytes()[:-40])

    report = report_of(clean, tmp_path)

    assert found_in(report) == {"truncated": ("error", ["large cut.jpg"])}
    assert report["pixels"]["train"]["decoded_smaller"] == 1
    assert report["sizes_px"]["width"][2] == 2400


def test_kinds_are_counted_and_read_rightly(clean, tmp_path):
    dogs = clean / "train" / "dog"
    save(dogs / "deep.png", Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)))
    save(dogs / "print.jpg", pattern(80).convert("CMYK"))
    save(dogs / "glass.png", Image.merge("RGBA", [*pattern(81).split(), pattern(82).getchannel(0)]))

    report = report_of(clean, tmp_path, code=0)

    kinds = {(kind["format"], kind["mode"]): kind["images"] for kind in report["kinds"]}
    assert kinds == {("PNG", "RGB"): 24, ("PNG", "I;16"): 1, ("JPEG", "CMYK"): 1, ("PNG", "RGBA"): 1}
    assert report["transparent"] == 1


def test_a_decompression_bomb_is_refused(clean, tmp_path, monkeypatch):
    save(clean / "train" / "dog" / "bomb.png", Image.new("1", (400, 400)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    report = report_of(clean, tmp_path)

    [finding] = report["findings"]
    assert finding["kind"] == "undecodable"
    assert "more than 100000 pixels" in finding["files"][0]["what"]


def test_processes_find_the_same_as_one(faulty, tmp_path):
    alone = report_of(faulty, tmp_path)

    assert report_of(faulty, tmp_path, "--processes", "2") == alone


def test_parts_with_other_classes_and_empty_ones_are_errors(clean, tmp_path):
    shutil.rmtree(clean / "test" / "dog")
    (clean / "train" / "emu").mkdir()

    found = report_of(clean, tmp_path)["findings"]

    texts = {one["kind"]: [f"{Path(file['path']).name} {file['what']}" for file in one["files"]] for one in found}
    assert texts["classes_differ"] == ["train has no class emu", "test has no class dog", "test has no class emu"]
    assert texts["empty_class"] == ["emu "]


def test_imbalance_is_said_above_five_to_one(tmp_path):
    for number in range(17):
        save(tmp_path / "tree" / ("many" if number < 15 else "few") / f"{number}.png", pattern(number))
    for extra, kinds in ((20, set()), (21, {"imbalance"})):  # 16 to 2 is more, 15 to 3 is not
        if extra == 20:
            save(tmp_path / "tree" / "few" / "third.png", pattern(40))
        else:
            save(tmp_path / "tree" / "many" / "sixteenth.png", pattern(41))

        report = report_of(tmp_path / "tree", tmp_path, code=bool(kinds))

        assert set(found_in(report)) == kinds


def test_copies_across_two_folders_are_found(clean, tmp_path):
    other = tmp_path / "other"
    save(other / "cat" / "new.png", pattern(90))
    shutil.copytree(clean / "test" / "dog", other / "dog")

    found = found_in(report_of(clean, tmp_path, str(other)))

    assert len(found["duplicates_across_parts"][1]) == 6


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def test_hostile_names_run_nothing_and_are_shown(clean, tmp_path, capsys):
    for number, name in enumerate((EVIL.replace("/", ""), "고양이 \"'", ESCAPE)):
        for part in ("train", "test"):
            for copy in range(2):
                save(clean / part / name / f"{name} {copy}.png", pattern(200 + number))

    report_of(clean, tmp_path)

    text = (tmp_path / "out" / "data_report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "iframe", "link", "object", "embed", "form", "a"}
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert html.escape(EVIL, quote=False).split("&lt;/")[0][:20] in text
    assert "고양이 \"'" in "".join(page.words)
    screen = capsys.readouterr().out
    assert EVIL in screen
    for shown in (screen, text):
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_quarantine_is_a_list_of_what_is_there_and_keeps_one_of_each_copies(faulty, tmp_path):
    report_of(faulty, tmp_path, "--quarantine", str(tmp_path / "aside"))

    [listed] = (tmp_path / "aside").iterdir()
    with listed.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [Path(row["path"]).relative_to(faulty).as_posix() for row in rows]
    assert all(Path(row["path"]).is_file() and row["reason"] for row in rows)
    assert sorted(names) == sorted(
        [
            *(f"train/cat/{name}" for name in ("nothing.jpg", "cut.jpg", "moving.jpg", "page.jpg", "broken.png")),
            "train/dog/black.png",
            "train/cat/04.png",
            "train/dog/copy under another label.png",
            "train/dog/02.png",  # its copy is in the test part, which stays as it is
            "train/cat/copy within.png",
            "train/cat/08.png",
        ]
    )


def test_exact_copies_are_those_that_hashlib_sees(faulty, tmp_path):
    by_digest = {}
    for path in faulty.rglob("*.*"):
        if path.suffix in (".png", ".webp", ".jpg") and path.name[0] != ".":
            by_digest.setdefault(hashlib.md5(path.read_bytes()).hexdigest(), set()).add(path.name)

    found = found_in(report_of(faulty, tmp_path))

    groups = [group for kind, (_, groups) in found.items() if kind.startswith("duplicates") for group in groups]
    expected = [names for names in by_digest.values() if len(names) > 1]
    assert sorted(map(sorted, groups)) == sorted(map(sorted, expected))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.write_text("x"), "not a folder"),
        (lambda folder: folder.mkdir(), "no images in class folders"),
        (lambda folder: (folder / "train" / "cat").mkdir(parents=True), "no images in class folders"),
    ],
)
def test_folders_without_images_are_refused_in_a_line(make, message, tmp_path):
    make(tmp_path / "data")

    with pytest.raises(DataError, match=message):
        main([str(tmp_path / "data"), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("option", ["--out", "--quarantine"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(option, clean, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("tools.check_data.list_folders", lambda folders: pytest.fail("read before"))

    with pytest.raises(OutputError, match=r"file/out: cannot write .*\(" + option):
        main([str(clean), "--out", str(tmp_path / "out"), option, str(tmp_path / "file" / "out")])


def test_no_processes_are_refused():
    with pytest.raises(ConfigError, match="--processes 0"):
        read_words(["data", "--processes", "0"])


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_with_all_its_processes(number, code, tmp_path):
    for at in range(3000):
        folder = tmp_path / "data" / ("a", "b")[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if at < 2:
            save(folder / "first.png", pattern(at, (900, 700)))
        os.link(folder / "first.png", folder / f"{at}.png")
    words = [sys.executable, "-m", "tools.check_data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*words, "--processes", "2"], cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        while len(members(process.pid)) < 3:
            assert process.poll() is None
            time.sleep(0.05)

        process.send_signal(number)

        assert process.wait(30) == code
        assert b"Traceback" not in process.stderr.read()
        deadline_s = time.monotonic() + 10
        while members(process.pid) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert members(process.pid) == []
    finally:
        process.stderr.close()
        for member in members(process.pid):
            os.kill(member, signal.SIGKILL)


def members(session):
    """Living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
