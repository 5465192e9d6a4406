"""The page of runs as its user asks for it."""

import pytest
from support.recorded_runs import write_run

from experiments import report


def test_one_command_makes_the_page(tmp_path, capsys):
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", steps=100, score=None)
    output = tmp_path / "page.html"
    output.write_text("an old page")
    report.main([str(first), str(second), f"--output={output}"])
    assert output.read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out.splitlines() == [
        "first: finished",
        "second: unfinished: logged up to step 100 of 400",
        f"In {output}",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "page.html", "second"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{tmp}"], "error: runs: got {tmp} without config.json, expected the folder"),
        (["{run}", "{run}"], "error: runs: got {run} twice, expected different folders"),
        (["{run}", "--output={tmp}/no/page.html"], "error: output: got {tmp}/no/page.html, expec"),
    ],
)
def test_bad_input_is_one_line_and_leaves_an_old_page(arguments, message, tmp_path, capsys):
    places = {"run": write_run(tmp_path / "run", steps=20), "tmp": tmp_path}
    output = tmp_path / "page.html"
    output.write_text("an old page")
    arguments = [f"--output={output}", *(one.format(**places) for one in arguments)]
    with pytest.raises(SystemExit) as stopped:
        report.main(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(message.format(**places))
    assert output.read_text() == "an old page"


def test_no_run_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main([])
    assert stopped.value.code == 2
    assert "RUNS" in capsys.readouterr().err.upper()
