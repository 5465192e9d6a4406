"""What the documentation shows runs, what it names is there, what is generated is current."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import figures
import generated
import jax
import pytest
import recorded

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _name(page):
    return str(page.relative_to(ROOT))


def _blocks(page, language):
    return [text for name, text in BLOCK.findall(page.read_text("utf-8")) if name == language]


@pytest.fixture
def quick_compilation():
    """What an example prints does not depend on how hard XLA tries; how long this takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("page", [p for p in PAGES if _blocks(p, "python")], ids=_name)
def test_examples_run_in_order_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    """As a user runs them: without x64. A `text` block is what the examples before it print."""
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": "__main__"}, io.StringIO()
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for language, text in BLOCK.findall(page.read_text("utf-8")):
            if language == "python":
                with contextlib.redirect_stdout(printed):
                    exec(compile(text, _name(page), "exec"), names)
            elif language == "text":
                assert printed.getvalue() == text
                printed = io.StringIO()


def test_the_example_of_the_readme_is_short():
    (example,) = _blocks(README, "python")
    assert len(example.splitlines()) <= 15


def test_generated_parts_are_current():
    advice = "run `python docs/generated.py` and commit what it writes"
    readme = README.read_text("utf-8")
    assert generated.readme_with_table(readme) == readme, advice
    assert generated.public_names_page() == generated.PUBLIC_NAMES.read_text("utf-8"), advice
    for page, text in (generated.pages_with_figures() | recorded.sources_with_paragraphs()).items():
        assert page.read_text("utf-8") == text, advice
    for name in ("gru_reset_before", "checkpointed"):
        assert f"`{name}`" in generated.registry_table()


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match=r"README\.md: got markers \[\]"):
        generated.readme_with_table("# rnnjax\n")


def test_the_docstring_of_an_experiment_says_what_is_recorded():
    source = '"""What it is.\n\nRecorded: old\nwords.\n"""\n\nRecorded: not this.\n'
    wanted = '"""What it is.\n\nRecorded: new.\n"""\n\nRecorded: not this.\n'
    assert recorded.with_paragraph(source, "new.") == wanted
    with pytest.raises(ValueError, match="got 0 paragraphs"):
        recorded.with_paragraph('"""What it is."""\n\nRecorded: not this.\n', "new.")


def test_a_figure_that_a_page_quotes_is_that_of_the_record():
    mark = "<!-- figure: gradient_memory.longest -->{}<!-- end -->"
    steps = max(row["time_steps"] for row in figures.record("gradient_memory/results.json")["rows"])
    assert figures.with_figures(f"T = {mark.format(1)}.") == f"T = {mark.format(steps)}."
    for name, figure in figures.FIGURES.items():
        assert re.fullmatch(r"[\d.,]+", figure()), name
    with pytest.raises(ValueError, match=r"^figure: got 'plans.pionts', expected one of"):
        figures.with_figures("<!-- figure: plans.pionts -->97<!-- end -->")
    with pytest.raises(ValueError, match=r"^figure: got a mark without an end"):
        figures.with_figures("<!-- figure: plans.points -->97")


def test_each_record_says_what_was_run_where_and_when():
    paths = sorted((ROOT / "docs" / "results").glob("*/re*.json"))
    assert len(paths) >= 4
    for path in paths:
        record = figures.record(str(path.relative_to(ROOT / "docs" / "results")))
        assert record["command"].partition("python -m ")[2], path
        assert record["machine"]["cpu"], path
        assert set(record["versions"]) >= {"python", "jax", "rnnjax"}, path
        assert "date" in record or "started" in record, path


def test_no_measured_figure_of_the_results_is_written_by_hand():
    text = (ROOT / "docs" / "results" / "README.md").read_text("utf-8")
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", figures.FIGURE.sub("", text))
    by_hand = re.findall(r"\d+\.\d+|\d+ (?:times|of)\b", prose)
    assert not by_hand, "quote it by <!-- figure: NAME -->, see docs/figures.py"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_what_a_page_names_is_there(page):
    """Links lead to files, commands are accepted by their programs, targets are in the Makefile."""
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", BLOCK.sub("", text)):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    commands = [
        shlex.split(line, comments=True)
        for block in _blocks(page, "sh")
        for line in block.splitlines()
    ]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands:
        if command[:1] == ["make"]:
            assert set(command[1:]) <= set(targets)
        elif command[:2] == ["python", "-m"]:
            _parses(*command[2:])
        elif command[:1] == ["python"]:
            assert (ROOT / command[1]).is_file()


def _parses(module, *arguments):
    if module == "tensorboard.main":
        return
    parse = importlib.import_module(module).parse
    if "--help" in arguments:
        with pytest.raises(SystemExit) as end, contextlib.redirect_stdout(io.StringIO()):
            parse([*arguments])
        assert end.value.code == 0
    else:
        parse([*arguments])
