import threading

import pytest

from rnnjax.training.prefetch import prefetched


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
@pytest.mark.parametrize("steps", [range(0), range(3, 10)])
def test_batches_come_in_order_whoever_makes_them(steps, ahead):
    with prefetched(lambda step: step * step, steps, ahead) as batches:
        assert list(batches) == [step * step for step in steps]


def test_the_next_batches_are_made_while_one_is_used_and_no_more_than_asked():
    made, is_made = [], {step: threading.Event() for step in range(10)}

    def batch_at(step):
        made.append(step)
        is_made[step].set()
        return step

    with prefetched(batch_at, range(10), 2) as batches:
        for step in range(4):
            assert next(batches) == step
            # Nobody asked for these two yet.
            assert is_made[step + 1].wait(10)
            assert is_made[step + 2].wait(10)
            assert len(made) <= step + 3
    assert len(made) <= 7, "who leaves early has no more batches made"


def test_an_error_comes_with_its_own_batch():
    def batch_at(step):
        if step == 2:
            raise OSError("the data went away")
        return step

    with prefetched(batch_at, range(9), 5) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(OSError, match="the data went away"):
            next(batches)


def test_who_leaves_does_not_wait_for_a_batch_under_way():
    begun, release = threading.Event(), threading.Event()

    def batch_at(step):
        begun.set()
        assert release.wait(10)
        return step

    with prefetched(batch_at, range(9), 2):
        assert begun.wait(10)
    release.set()  # reached while the first batch was still being made


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match=r"^ahead: got -1"), prefetched(abs, range(3), -1):
        pass
