import json
from collections import deque
from contextlib import contextmanager

import pytest

from benchmarks.child_process import ChildEndedError, ChildTookTooLongError
from benchmarks.measure import CompileCost
from benchmarks.points import (
    POINTS,
    Program,
    collect,
    examined_in_children,
    forget_points,
    rows_of,
)
from benchmarks.points_report import Row

COST = CompileCost(1.0, 3.0, 100, 10)
FORWARD, TRAINING = Program("forward", "fast"), Program("training", "fast")
OTHER = Program("forward", "other")


class Children:
    """Children that report of each program what they are told; an exception is raised instead."""

    def __init__(self, **reports):
        self.reports, self.started, self.limits = reports, [], []

    @contextmanager
    def __call__(self, programs):
        self.started.append(list(programs))
        queue = deque(["ready"])
        for program in programs:
            queue += self.reports.get(f"{program.computation}_{program.plan}", [COST, 0.5])
        queue.append("all")

        def receive(seconds):
            self.limits.append(seconds)
            report = queue.popleft()
            if isinstance(report, Exception):
                raise report
            return report

        yield receive


def examined(children, *programs, run_limits=None):
    left_out = {}
    _, found, last = examined_in_children(children, programs, left_out, 20.0, run_limits or {})
    assert last == "all"
    return found, left_out


def test_a_reason_in_place_of_a_report_leaves_out_without_another_child():
    children = Children(forward_fast=["refused"], training_fast=[COST, "not finite"])
    found, left_out = examined(children, FORWARD, TRAINING, OTHER)
    assert len(children.started) == 1
    assert found == {OTHER: (COST, 0.5)}
    assert left_out == {FORWARD: "refused", TRAINING: "not finite"}


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([ChildTookTooLongError()], "compilation given up after 20 s"),
        ([COST, ChildTookTooLongError()], "run given up after 3 s"),
        ([COST, ChildEndedError("exit code 9")], "exit code 9"),
    ],
)
def test_what_fails_forward_is_not_tried_in_training(reports, reason):
    children = Children(forward_fast=reports)
    found, left_out = examined(children, FORWARD, TRAINING, OTHER, run_limits={"fast": 3.0})
    assert children.started == [[FORWARD, TRAINING, OTHER], [OTHER]]
    assert list(found) == [OTHER]
    assert left_out == {FORWARD: reason, TRAINING: "not tried, see forward"}


def test_what_fails_in_training_is_still_measured_forward():
    children = Children(training_fast=[COST, ChildTookTooLongError()])
    found, left_out = examined(children, FORWARD, TRAINING, run_limits={"fast": 3.0})
    assert list(found) == [FORWARD]
    assert left_out == {TRAINING: "run given up after 3 s"}


def test_only_runs_of_plans_with_a_limit_are_limited():
    children = Children()
    examined(children, FORWARD, OTHER, run_limits={"fast": 3.0})
    _, *of_programs, last = children.limits
    assert (of_programs, last) == ([20.0, 3.0, 20.0, None], None)


def point(recurrence, time_steps):
    return {"recurrence": recurrence, "time_steps": time_steps}


def test_points_are_measured_once_and_given_back_in_order(tmp_path):
    measured = []

    def measure(at, earlier):
        measured.append((at, [row.time_steps for row in earlier]))
        return {"device": "d"}, [Row(at["recurrence"], at["time_steps"], "forward", "p", "s")]

    def collected(*points):
        measured.clear()
        return collect(tmp_path, {"dtype": "d"}, points, measure, Row)

    collected(point("lstm", 8))
    records = collected(point("lstm", 16), point("lstm", 4), point("lstm", 8), point("elman", 8))
    assert measured == [
        (point("lstm", 16), [8]),
        (point("lstm", 4), [8, 16]),
        (point("elman", 8), []),
    ]
    rows = [(row.recurrence, row.time_steps) for row in rows_of(records, Row)]
    assert rows == [("elman", 8), ("lstm", 4), ("lstm", 8), ("lstm", 16)]
    lines = (tmp_path / POINTS).read_text().splitlines()
    assert sorted(json.loads(line)["time_steps"] for line in lines) == [4, 8, 8, 16]
    with pytest.raises(ValueError, match="with points of dtype d, expected e"):
        collect(tmp_path, {"dtype": "e"}, [point("lstm", 32)], measure, Row)
    forget_points(tmp_path)
    assert list(tmp_path.iterdir()) == []
