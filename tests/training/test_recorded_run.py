import json

import pytest
from support.recorded_runs import write_run

from rnnjax.training.recorded_run import read_runs


def test_a_finished_run_is_read_whole(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "one", steps=400)])
    assert (run.name, run.state, run.problems) == ("one", "finished", ())
    assert run.config["model.hidden_sizes"] == [8, 8]
    assert run.config["optimizer.clip_norm"] == 5.0
    assert run.starts[0]["command"] == "train --seed=0"
    assert len(run.records) == 24
    assert run.report["test"]["bits_per_character"] == 2.3


def test_an_unfinished_run_says_how_far_it_is(tmp_path):
    path = write_run(tmp_path / "one", steps=200, total_steps=1200, score=None)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 220, "tra')  # the line that is being written
    (run,) = read_runs([path])
    assert run.state == "unfinished: logged up to step 200 of 1,200"
    assert run.problems == ()


def test_runs_are_named_by_as_little_as_tells_them_apart(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a/seed_0", "a/seed_1", "b/seed_0")]
    for path in paths:
        write_run(path)
    assert [run.name for run in read_runs(paths[:2])] == ["seed_0", "seed_1"]
    assert [run.name for run in read_runs(paths)] == ["a/seed_0", "a/seed_1", "b/seed_0"]
    monkeypatch.chdir(paths[0])
    assert read_runs([paths[0].relative_to(paths[0])])[0].name == "seed_0"


def replaced(line, text):
    def damage(path):
        lines = (path / "metrics.jsonl").read_text().splitlines()
        lines[line] = text
        (path / "metrics.jsonl").write_text("\n".join(lines))

    return damage


def reported(**entries):
    def damage(path):
        report = json.loads((path / "report.json").read_text())
        (path / "report.json").write_text(json.dumps(report | entries))

    return damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda p: (p / "config.json").write_text("{"), "config.json is damaged: it is no JSON o"),
        (lambda p: (p / "run.json").unlink(), "run.json is missing"),
        (lambda p: (p / "run.json").write_text("{}"), "run.json is damaged: it is no JSON list"),
        (lambda p: (p / "run.json").write_text("[1]"), "run.json is damaged: 1 of its entries"),
        (lambda p: (p / "run.json").write_bytes(b"\xff"), "run.json is damaged: it is no JSON l"),
        (lambda p: (p / "report.json").write_text(""), "report.json is damaged: it is no JSON o"),
        (reported(test={"bits": "few"}), "report.json is damaged: test not as expected"),
        (reported(samples=[3], metric=None), "report.json is damaged: metric, samples not as"),
        (lambda p: (p / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
        (replaced(3, "\0\0\0"), "metrics.jsonl is damaged: 1 of its lines left out"),
        (replaced(3, '{"step": 1, "train/loss": "x"}'), "metrics.jsonl is damaged: 1 of its lin"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_said_and_the_rest_is_read(damage, problem, tmp_path):
    damage(write_run(tmp_path / "one"))
    (run,) = read_runs([tmp_path / "one"])
    assert len(run.problems) == 1
    assert run.problems[0].startswith(problem)
    assert run.config or run.records


def test_a_run_resumed_with_other_code_says_so(tmp_path):
    path = write_run(tmp_path / "one")
    starts = json.loads((path / "run.json").read_text())
    starts.append(starts[0] | {"fingerprint": starts[0]["fingerprint"] | {"code": "d" * 64}})
    (path / "run.json").write_text(json.dumps(starts))
    assert read_runs([path])[0].problems == (
        "it was resumed with other code than it was begun with",
    )


def test_what_is_no_run_is_refused_by_name(tmp_path):
    path = write_run(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^runs: got no folder, expected at least one"):
        read_runs([])
    for name in ("empty", "missing"):
        with pytest.raises(ValueError, match=rf"^runs: got .*{name} without config.json, expected"):
            read_runs([path, tmp_path / name])
    with pytest.raises(ValueError, match=r"^runs: got .*one twice, expected different folders"):
        read_runs([path, tmp_path / "empty" / ".." / "one"])
