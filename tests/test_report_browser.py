"""The report in a real browser: silent, offline, sortable, and within the width of a telephone.

Skipped where there is no Chromium; $CHROMIUM names one.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from logger.report.page import write_report
from tests.chromium import Chromium, find_chromium
from tests.test_report_page import hostile_report, report_of

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")
NAMES = ["ant", "bee", "cicada", "dragonfly"]
RECALL = 4  # columns of the table of classes: class, support, predicted, precision, recall, f1
COLUMN = "Array.from(document.querySelectorAll('#classes tbody tr'), row => row.cells[{}].dataset.v)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    many = [f"a class with a name of some length, {index}" for index in range(60)]
    reports = {"few": report_of(NAMES, 200), "hostile": hostile_report(), "many": report_of(many, 900)}
    for name, report in reports.items():
        write_report(folder / f"{name}.html", report)
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(str(PROGRAM), tmp_path_factory.mktemp("profile")) as started:
        yield started


def opened(browser: Chromium, path: Path, width: int = 1280, *, dark: bool = False) -> Chromium:
    browser.view(width, 900, dark=dark)
    browser.open(path)
    return browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["few", "hostile", "many"])
def test_it_is_silent_offline_and_not_wider_than_the_window(
    browser: Chromium, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    page = opened(browser, pages[name], width, dark=dark)

    page.run("for (const one of document.querySelectorAll('button')) one.click()")

    assert page.complaints() == []
    assert page.requests() == [pages[name].as_uri()]
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")


def test_a_click_sorts_and_another_turns_it_round(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["few"])
    head = f"document.querySelectorAll('#classes thead th')[{RECALL}]"
    before = [float(value) for value in page.run(COLUMN.format(RECALL))]

    page.run(f"{head}.querySelector('button').click()")
    assert [float(value) for value in page.run(COLUMN.format(RECALL))] == sorted(before, reverse=True)
    assert page.run(f"{head}.getAttribute('aria-sort')") == "descending"

    page.run(f"{head}.querySelector('button').click()")
    assert [float(value) for value in page.run(COLUMN.format(RECALL))] == sorted(before)
    assert page.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    assert page.run("document.querySelectorAll('#classes [aria-sort]').length") == 1


def test_the_keyboard_sorts_and_names_go_from_a_to_z(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["few"])
    names = "Array.from(document.querySelectorAll('#classes tbody tr'), row => row.cells[0].textContent)"

    page.run("document.querySelectorAll('#classes thead button')[1].focus()")
    page.key("Enter")
    assert page.run("document.querySelectorAll('#classes thead th')[1].getAttribute('aria-sort')") == "descending"
    page.run("document.querySelectorAll('#classes thead button')[0].focus()")
    page.key("Enter")

    assert page.run(names) == NAMES


def test_what_has_no_number_goes_last_either_way(browser: Chromium, tmp_path: Path) -> None:
    report = report_of(NAMES, 60)
    assert report.scores is not None
    frame = report.scores.per_class.copy()
    frame.loc[1, "recall"] = np.nan
    write_report(tmp_path / "x.html", replace(report, scores=replace(report.scores, per_class=frame)))
    page = opened(browser, tmp_path / "x.html")

    for _ in range(2):
        page.run(f"document.querySelectorAll('#classes thead button')[{RECALL}].click()")

        assert page.run(COLUMN.format(RECALL))[-1] == ""


def test_a_cell_opens_the_pictures_behind_it(browser: Chromium, pages: dict[str, Path]) -> None:
    report = report_of(NAMES, 200)
    assert report.judgement is not None
    true, predicted = report.judgement.true_N, report.judgement.predicted_N
    inside = np.flatnonzero((true == 1) & (predicted == 2))
    names = {report.judgement.name_of(int(at)) for at in inside}
    page = opened(browser, pages["few"])

    page.run("document.querySelector('[data-matrix] [data-key=\"1 2\"]').click()")

    assert page.run("document.querySelector('dialog').open")
    assert (
        page.run("document.querySelector('dialog h2').textContent") == f"{len(inside)} images of bee, taken for cicada"
    )
    titles = page.run("Array.from(document.querySelectorAll('dialog li'), item => item.title)")
    assert set(titles) <= names
    assert len(titles) == min(len(inside), 24)
    assert page.run("document.querySelectorAll('dialog img').length") >= min(len(inside), 6)
    page.key("Escape")
    assert not page.run("document.querySelector('dialog').open")


def test_arrows_walk_through_the_matrix(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["few"])
    focused = "document.activeElement.dataset.key"

    page.run("document.querySelector('[data-matrix] [tabindex=\"0\"]').focus()")
    first = page.run(focused)
    page.key("ArrowDown")
    second = page.run(focused)
    page.key("ArrowRight")

    assert (first, second, page.run(focused)) == ("0 0", "1 0", "1 1")
    assert page.run("document.querySelectorAll('[data-matrix] [tabindex=\"0\"]').length") == 1


def test_no_name_runs_as_code_wherever_it_is_shown(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["hostile"])

    page.run("for (const cell of document.querySelectorAll('[data-key]')) { cell.click(); behind.close(); }")

    assert page.run("document.scripts.length") == 2
    assert page.run("document.querySelectorAll('[onerror], [onmouseover], [onfocus], [autofocus]').length") == 0
    assert not [event for event in page.events if event["method"] == "Page.javascriptDialogOpening"]
    assert page.complaints() == []


def test_the_policy_holds_against_what_would_get_in(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["few"])

    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    page.run("document.body.append(Object.assign(document.createElement('img'), {src: 'https://evil.example/x.png'}))")

    assert page.run("window.ran === undefined")
    assert page.run("fetch('https://evil.example/').then(() => 'sent', () => 'refused')") == "refused"
    assert len([line for line in page.complaints() if "Content Security Policy" in line]) >= 3


def test_many_classes_are_found_by_name_and_by_pointing(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["many"])

    page.run("const input = document.querySelector('#classes input'); input.value = 'LENGTH, 7';")
    page.run("document.querySelector('#classes input').dispatchEvent(new Event('input'))")
    shown = "Array.from(document.querySelectorAll('#classes tbody tr')).filter(row => !row.hidden).length"
    assert page.run(shown) == 1

    page.run("document.querySelector('canvas').scrollIntoView()")
    page.run("var box = document.querySelector('canvas').getBoundingClientRect()")
    left, top, side = page.run("[box.left, box.top, box.width]")
    for kind in ("mousePressed", "mouseReleased"):
        at = {"x": left + side * 5.5 / 60, "y": top + side * 5.5 / 60}
        page.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)
    assert "of a class with a name of some length, 5, answered right" in page.run("behind.textContent")


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_told_from_its_ground(browser: Chromium, pages: dict[str, Path], dark: bool) -> None:
    page = opened(browser, pages["hostile"], dark=dark)  # its matrix has cells of either kind for all colours
    # Contrast as WCAG defines it, drawn on a canvas so that every way to write a colour is understood.
    script = """(() => {
      const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const light = colours => {
        for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
        const [r, g, b] = Array.from(context.getImageData(0, 0, 1, 1).data, v => v / 255)
          .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
      };
      const worst = {};
      const cells = document.querySelectorAll("[data-matrix] td[data-h]");
      cells.forEach((cell, index) => { if (cell.firstChild) cell.dataset.h = 1 + (index % 10); });
      for (const selector of ["h1", "nav a", "p", "dt", "dd", "thead th", "tbody th", "td.n", "small", ".predicted",
                              ".file", ".warnings li", "[data-matrix] td [data-key]", "pre", ".label", "summary"])
        for (const element of document.querySelectorAll(selector)) {
          const grounds = [];
          for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
          const [a, b] = [light(grounds), light([...grounds, getComputedStyle(element).color])];
          worst[selector] = Math.min(worst[selector] ?? 99, Math.max(a, b) / Math.min(a, b));
        }
      return worst;
    })()"""

    contrasts = page.run(script)

    assert len(contrasts) == 16
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


def test_paper_shows_whole_tables_in_light_colours(browser: Chromium, pages: dict[str, Path], tmp_path: Path) -> None:
    page = opened(browser, pages["few"], 700, dark=True)
    page.view(700, 900, dark=True, media="print")

    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("Array.from(document.querySelectorAll('.scroll'), box => getComputedStyle(box).overflow)").count(
        "visible"
    ) == page.run("document.querySelectorAll('.scroll').length")
    page.view(700, 900)
    page.pdf(tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert page.run("Array.from(document.querySelectorAll('details')).every(one => one.open)")
