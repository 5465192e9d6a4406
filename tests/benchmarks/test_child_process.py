import os
import time

import pytest

from benchmarks.child_process import ChildEndedError, ChildTookTooLongError, child_process


def report_then_sleep(send, word):
    send(word)
    time.sleep(600)


def report_then_crash(send):
    send(1)
    os._exit(7)


def test_reports_arrive_until_the_child_takes_too_long():
    with child_process(report_then_sleep, "ready") as receive:
        assert receive(60.0) == "ready"
        with pytest.raises(ChildTookTooLongError, match=r"no report within 0\.05 s"):
            receive(0.05)


def test_a_crash_is_told_apart():
    with child_process(report_then_crash) as receive:
        assert receive(60.0) == 1
        with pytest.raises(ChildEndedError, match="exit code 7"):
            receive(60.0)
