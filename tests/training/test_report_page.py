import json
import re
from html.parser import HTMLParser

import pytest
from support.recorded_runs import BASELINES, write_run

from rnnjax.training.curves import MOST_POINTS, charts
from rnnjax.training.metrics import JsonLines
from rnnjax.training.recorded_run import read_runs
from rnnjax.training.report_page import report_page

VOID = {"meta", "link", "br", "input"}
HOSTILE = (
    '</script><script>document.title="hit"</script><img src="https://example.org/x"> & "$x_1$"'
)


class Page(HTMLParser):
    """The elements of a page; it must close what it opens, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*paths):
    text = report_page(read_runs(paths))
    return Page(text), text


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = write_run(folder / "first", score=2.3)
    second = write_run(folder / "second", seed=1, score=2.25)
    third = write_run(folder / "third", seed=2, steps=100, score=None)
    return page_of(first, second, third)


def rows_of(text):
    """Row label -> cells, of every table."""
    rows = re.findall(r"<tr[^>]*><th scope=\"row\">(.*?)</th>(.*?)</tr>", text, re.DOTALL)
    return {label: re.findall(r"<td>(.*?)</td>", cells, re.DOTALL) for label, cells in rows}


def test_the_page_is_whole_and_loads_nothing(three):
    page, text = three
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "src", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
        for value in attributes.values():
            assert all(part.startswith("url(#") for part in re.findall(r"url\(.", value or "")) or (
                "url(#" in value
            )
    references = re.findall(r"(?:url\(|href=\")#([^\")]+)", text)
    assert references
    assert set(references) <= set(ids)
    assert "default-src 'none'" in text
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


def test_there_is_a_chart_of_each_quantity_and_its_scale(three):
    page, _ = three
    figures = page.all("figure")
    assert len(figures) == 5
    scales = [attributes["class"] for attributes in page.all("svg")]
    # Loss, bits, gradient norm; the rate of learning falls to 0; steps per second.
    assert scales == ["linear", "log"] * 2 + ["log", "linear", "linear", "log"]
    labels = [a["aria-label"] for a in page.all("div") if a.get("role") == "img"]
    assert [label.partition(" by training step")[0] for label in labels] == [
        "Loss (nats)", "Bits per character", "Gradient norm before clipping", "Learning rate",
        "Rate (steps per second)",
    ]  # fmt: skip
    assert "third, held-out: 3.62 at step 100, 3.62 at step 100" in labels[1]
    curves = [a["data-run"] for a in page.all("g") if "data-run" in a]
    assert set(curves) == {"0", "1", "2"}


def test_levels_stand_where_they_belong(three):
    _, text = three
    drawn = text.partition('<figure class="chart" data-chart="1"')[2].partition("</figure>")[0]
    for name, value in BASELINES.items():
        assert drawn.count(f"{name} {value:.4g}") == 2  # on both scales, once for all runs
    assert text.count("clipped to 5") == 1


def test_scores_are_beside_the_baselines_and_the_best_is_marked(three):
    _, text = three
    rows = rows_of(text)
    best = '<strong>2.25</strong> <span class="best">best</span>'
    assert rows["Bits per character"] == ["2.3", best, "–"]
    assert rows["Perplexity"] == ["4.925", "4.757", "–"]
    assert rows["order 3"] == ["2.5", "2.5", "–"]
    assert "Baselines: bits per character" in text


def test_settings_that_differ_come_first_and_the_others_once(three):
    _, text = three
    rows = rows_of(text)
    assert rows["seed"] == ["0", "1", "2"]
    assert rows["model.hidden_sizes"] == ["[8, 8]"]
    assert rows["fingerprint.config"] == [f"{0:012}"] * 3
    assert text.index(">seed<") < text.index("that are the same") < text.index(">model.recurrence<")
    differing = re.findall(r"<tr class=\"differs\"><th scope=\"row\">(.*?)</th>", text)
    assert differing == ["seed"]


def test_states_are_said(three):
    page, _ = three
    said = " ".join(page.texts["span"])
    assert "finished" in said
    assert "unfinished: logged up to step 100 of 400" in said


def test_scores_on_different_data_are_not_compared(tmp_path):
    one = write_run(tmp_path / "one")
    other = write_run(tmp_path / "other", data="b" * 64, score=2.0)
    _, text = page_of(one, other)
    assert "made with different data" in text
    assert "best</span>" not in text


def test_nothing_that_is_read_is_taken_for_markup(tmp_path):
    path = write_run(tmp_path / "<b>run", sample=HOSTILE, notes={HOSTILE: HOSTILE})
    report = json.loads((path / "report.json").read_text())
    report["samples"] = [{HOSTILE: HOSTILE}]
    report["test"][HOSTILE] = 1.0
    report["baselines"]["validation"] = {HOSTILE: 3.0}
    (path / "report.json").write_text(json.dumps(report))
    lines = JsonLines(path / "metrics.jsonl", start_step=1000)
    lines.log(1000, {f"train/{HOSTILE}": 1.0})
    lines.close()
    page, text = page_of(path)
    plain, _ = page_of(write_run(tmp_path / "plain"))
    for tag in ("script", "img", "b"):
        assert len(page.all(tag)) == len(plain.all(tag))
    assert HOSTILE in page.texts["pre"]
    assert "<b>run" in page.texts["b"]
    assert "hit" in text


def test_runs_with_nothing_yet_and_damaged_ones_are_on_the_page(tmp_path):
    path = write_run(tmp_path / "begun", steps=0, score=None)
    (path / "run.json").write_text("[")
    _, text = page_of(path)
    for sentence in (
        "None yet: no run is finished.",
        "None yet: nothing is logged.",
        "unfinished: logged up to step 0 of 400",
        "⚠ run.json is damaged: it is no JSON list",
        "1 training run<",
    ):
        assert sentence in text
    with pytest.raises(ValueError, match=r"^runs: got none"):
        report_page([])


def test_gaps_stay_gaps_and_long_logs_are_thinned(tmp_path):
    path = write_run(tmp_path / "long", steps=0, score=None)
    lines = JsonLines(path / "metrics.jsonl")
    count = 2 * MOST_POINTS + 1
    for step in range(1, count + 1):
        lines.log(step, {"train/loss": float("nan") if step == 7 else float(step)})
    lines.close()
    (chart,) = charts(read_runs([path]))
    assert chart.averaged == 3
    (series,) = chart.series
    assert series.steps[:3] == [3, 6, 9]
    assert series.values[:2] == [2.0, 5.0]
    assert series.values[2] != series.values[2]
    assert (series.steps[-1], series.values[-1]) == (count, count - 0.5 * ((count - 1) % 3))
    assert "means of 3 neighbouring values" in report_page(read_runs([path]))


def test_the_same_runs_make_the_same_page(tmp_path):
    path = write_run(tmp_path / "one")
    assert report_page(read_runs([path])) == report_page(read_runs([path]))
