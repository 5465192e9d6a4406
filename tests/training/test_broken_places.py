"""Full disks, folders that cannot be written: a clear error, and nothing lost."""

import os
import resource
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rnnjax.training.checkpoints import BackgroundSaves, Checkpoints
from rnnjax.training.loop import train
from rnnjax.training.metrics import MetricLogger
from rnnjax.training.run_folder import open_run_folder

# Orbax gives up at the first file that cannot be written; those that it has begun then end
# with nobody there to be told, which Python can only report as an exception it ignored.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*Event loop is closed:pytest.PytestUnraisableExceptionWarning"
)

OPTIONS: dict[str, Any] = {"total_steps": 12, "checkpoint_every": 2, "log_every": 1}


@contextmanager
def no_file_above(size):
    """No file may grow beyond a size in bytes, which any user can arrange, for himself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def nobody():
    """Without the rights of the superuser, who may write everywhere."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder whose parents anybody may pass through, unlike those of `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 2 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only the superuser may mount a file system, and not everywhere")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def run(leaky, folder, **options):
    """A run in a folder, as an experiment has it: it goes on where it stopped."""
    with open_run_folder(folder, {}) as run_folder:
        checkpoints = Checkpoints(run_folder.checkpoints)
        restored = checkpoints.restore_latest(leaky.state())
        state = leaky.state() if restored is None else restored.state
        with MetricLogger(folder, int(state.step)) as logger:
            return train(
                state,
                leaky.step,
                leaky.batch,
                checkpoints=BackgroundSaves(checkpoints),
                logger=logger,
                **(OPTIONS | options),
            )


def assert_goes_on(leaky, folder, error):
    """The error names a good checkpoint, and the same run goes on to the very same end."""
    (note,) = error.__notes__
    named = Path(note.rpartition("last good checkpoint: ")[2])
    checkpoints = Checkpoints(folder / "checkpoints")
    restored = checkpoints.restore_latest(leaky.state())
    assert restored is not None
    assert (restored.path, restored.damaged) == (named, ())
    assert not list(checkpoints.folder.glob(".incomplete*"))
    assert restored.step < 12
    resumed = run(leaky, folder)
    whole = train(leaky.state(), leaky.step, leaky.batch, total_steps=12)
    leaky.assert_equal(resumed.state, whole.state)


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(leaky, small_disk):
    folder, filler = small_disk / "run", small_disk / "filler"

    def fill_up():
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    class FullAtStep5:
        def update(self, step, metrics):
            if step == 5:
                with pytest.raises(OSError, match="No space left"):
                    fill_up()

    with pytest.raises(OSError, match="No space left on device") as failure:
        run(leaky, folder, progress=FullAtStep5())
    filler.unlink()
    assert_goes_on(leaky, folder, failure.value)


def test_files_that_may_not_grow_end_the_run_and_lose_nothing(leaky, tmp_path):
    folder = tmp_path / "run"
    run(leaky, folder, total_steps=4)
    with no_file_above(4096), pytest.raises(OSError, match="File too large") as failure:
        run(leaky, folder)
    assert_goes_on(leaky, folder, failure.value)


def test_a_checkpoint_that_cannot_be_written_says_why_and_is_cleared_away(leaky, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    good = checkpoints.save(leaky.state(), {}, {})
    later = leaky.step(leaky.state(), leaky.batch(0))[0]
    message = r"^checkpoint .*step_00000001 could not be written, earlier .*: .*File too large"
    with no_file_above(100), pytest.raises(OSError, match=message):
        checkpoints.save(later, {}, {})
    assert list(tmp_path.iterdir()) == [good]
    saves = BackgroundSaves(checkpoints)
    with no_file_above(100):
        assert saves.save(later, {}, {}) == tmp_path / "step_00000001"
        assert saves.last_good() == good
    with pytest.raises(OSError, match=message):
        saves.finish()
    saves.finish()
    assert list(tmp_path.iterdir()) == [good]


def test_a_folder_that_may_not_be_written_is_named(leaky, open_folder):
    folder = open_folder / "run"
    run(leaky, folder, total_steps=4)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in folders:
        path.chmod(0o555)
    checkpoints = Checkpoints(folder / "checkpoints")
    with nobody():
        with pytest.raises(PermissionError, match=str(folder)), open_run_folder(folder, {}):
            pass
        with pytest.raises(OSError, match=r"could not be written, .*Permission denied"):
            checkpoints.save(leaky.state(), {}, {})
        restored = checkpoints.restore_latest(leaky.state())
    assert restored is not None
    assert restored.step == 4
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for path in folders:
        path.chmod(0o755)
