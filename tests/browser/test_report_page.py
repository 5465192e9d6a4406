"""The page of runs as a browser shows it: drawn, alive, readable in the dark and on a phone."""

import json

import numpy as np
import pytest
from matplotlib.image import imread
from support.browser import find_browser, running_browser
from support.recorded_runs import write_run

from rnnjax.training.recorded_run import read_runs
from rnnjax.training.report_page import report_page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

HOSTILE = (
    '</script><script>document.title="hit"</script><img src=https://example.org/x onerror=hit()>'
)
VIEWS = {"light": (1280, 900), "dark": (1280, 900), "narrow": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    program = find_browser()
    assert program is not None, "no browser here: `make test-browser` installs one where it can"
    with running_browser(program) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two finished runs, the second with hostile texts, and one that is not finished."""
    folder = tmp_path_factory.mktemp("runs")
    first = write_run(folder / "first")
    second = write_run(folder / "second", seed=1, score=2.25, sample=HOSTILE, note=HOSTILE)
    report = json.loads((second / "report.json").read_text())
    report["baselines"]["validation"] |= {HOSTILE: 3.0}
    (second / "report.json").write_text(json.dumps(report))
    third = write_run(folder / "third", seed=2, steps=100, score=None)
    path = folder / "page.html"
    path.write_text(report_page(read_runs([first, second, third])), "utf-8")
    return path


def opened(browser, page, view="light"):
    browser.open(page.as_uri(), *VIEWS[view], scheme="dark" if view == "dark" else "light")


def boxes(browser, selector):
    """Left, top, width and height of elements that are shown, in pixels of the whole page."""
    return browser.evaluate(
        f"""[...document.querySelectorAll({selector!r})].filter((e) => e.checkVisibility())
        .map((e) => e.getBoundingClientRect())
        .map((r) => [r.x + scrollX, r.y + scrollY, r.width, r.height])"""
    )


def pixels(browser, path, box):
    browser.screenshot(path)
    left, top, width, height = (round(number) for number in box)
    part = imread(path)[top : top + height, left : left + width, :3]
    assert part.shape[:2] == (height, width)
    return part


def count_of_colour(picture, browser, variable):
    """How many pixels are of a colour of the page, anti-aliased edges left out."""
    text = browser.evaluate(
        f"getComputedStyle(document.documentElement).getPropertyValue('{variable}').trim()"
    )
    colour = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int(np.all(np.abs(picture - colour) < 0.05, axis=-1).sum())


@pytest.mark.parametrize("view", VIEWS)
def test_every_chart_is_drawn_and_nothing_fails(browser, page, view, tmp_path):
    opened(browser, page, view)
    pictures = boxes(browser, ".picture")
    assert len(pictures) == 4  # and one more is folded away
    for number, box in enumerate(pictures):
        picture = pixels(browser, tmp_path / "page.png", box)
        assert picture.std() > 0.03, "blank"
        for run in range(3):
            assert count_of_colour(picture, browser, f"--run-{run}") > 5, (number, run)
        assert count_of_colour(picture, browser, "--ink") > 20, "no axes"
        assert count_of_colour(picture, browser, "--paper") > 0.8 * picture[..., 0].size
    assert browser.complaints == []
    assert browser.requested == [page.as_uri()]
    assert browser.evaluate("document.title") == "Runs: first, second, third"
    assert browser.evaluate("document.querySelector('pre:last-of-type').tagName") == "PRE"
    width = browser.evaluate("document.documentElement.scrollWidth")
    assert width == VIEWS[view][0], "the page is wider than the screen"


def test_dark_is_dark(browser, page, tmp_path):
    means = {}
    for view in ("light", "dark"):
        opened(browser, page, view)
        browser.screenshot(tmp_path / "page.png")
        means[view] = imread(tmp_path / "page.png")[..., :3].mean()
    assert means["dark"] < 0.3 < 0.7 < means["light"]


def test_the_legend_hides_the_curves_of_a_run(browser, page, tmp_path):
    opened(browser, page)
    box = boxes(browser, ".picture")[0]

    def count(run):
        return count_of_colour(pixels(browser, tmp_path / "p.png", box), browser, f"--run-{run}")

    browser.evaluate("document.querySelector('[data-shows=\"1\"]').click()")
    assert count(1) == 0
    assert count(0) > 30
    browser.evaluate("document.querySelector('[data-shows=\"1\"]').click()")
    assert count(1) > 30


def test_the_logarithmic_switch_shows_the_other_drawing(browser, page):
    opened(browser, page)
    svgs = "[...document.querySelectorAll('svg')].filter((svg) => svg.checkVisibility())"
    shown = f"{svgs}.map((svg) => svg.classList.value)"
    assert browser.evaluate(shown) == ["linear", "linear", "log", "linear"]
    browser.evaluate("document.getElementById('logarithmic').click()")
    assert browser.evaluate(shown) == ["log", "log", "log", "linear"]
    assert browser.complaints == []


def test_values_stand_under_the_pointer_and_the_arrow_keys(browser, page):
    opened(browser, page)
    readout = "document.querySelectorAll('.readout')[1].innerText"
    browser.evaluate("document.querySelectorAll('.picture')[1].scrollIntoView({block: 'center'})")
    x, y, width, height = boxes(browser, ".picture")[1]
    scrolled = browser.evaluate("scrollY")
    browser.move_pointer(x + 0.99 * width, y - scrolled + height / 2)
    assert browser.evaluate(readout).splitlines() == [
        "step 400",
        "first, training: 2.246",
        "first, held-out: 2.346",
        "second, training: 2.446",
        "second, held-out: 2.546",
        "third, training: 3.52 (step 100)",
        "third, held-out: 3.62 (step 100)",
    ]
    assert len(boxes(browser, ".readout")) == len(boxes(browser, ".cursor")) == 1
    browser.move_pointer(1, 1)
    assert boxes(browser, ".readout") == boxes(browser, ".cursor") == []
    browser.evaluate("document.querySelectorAll('.picture')[1].focus()")
    for key, step in (("ArrowRight", 20), ("ArrowRight", 40), ("ArrowLeft", 20)):
        browser.press(key)
        assert browser.evaluate(readout).splitlines()[0] == f"step {step}"
    assert browser.complaints == []


def test_the_checks_can_fail(browser, tmp_path):
    """A page that is blank and one that loads and throws are told from a good one."""
    path = tmp_path / "bad.html"
    path.write_text("<title>x</title><img src='missing.png'><script>null.x</script>")
    browser.open(path.as_uri(), 400, 300)
    assert len(browser.requested) == 2
    assert any("ERR_FILE_NOT_FOUND" in complaint for complaint in browser.complaints)
    assert any(complaint.startswith("exception") for complaint in browser.complaints)
    browser.screenshot(tmp_path / "bad.png")
    assert imread(tmp_path / "bad.png")[100:, :, :3].std() == 0
