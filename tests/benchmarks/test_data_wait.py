import dataclasses
import json

import pytest

from benchmarks import data_wait


def test_each_source_is_measured_with_and_without_batches_made_beforehand(tmp_path):
    config = dataclasses.replace(data_wait.PRESETS["quick"], out=tmp_path)
    rows = data_wait.run(config, "the command")
    assert [(row.source, row.batches_ahead) for row in rows] == [
        (name, ahead) for name in ("streams", "packed", "streams, slow") for ahead in (2, 0)
    ]
    assert all(0 <= row.waiting_share <= 1 and row.steps_per_second > 0 for row in rows)
    # With nothing made beforehand the pause of each batch is waited for.
    assert rows[-1].waiting_share > 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rows"] == [dataclasses.asdict(row) for row in rows]
    assert (tmp_path / "results.csv").read_text().count("\n") == 1 + len(rows)
    assert "| packed | 0 | " in (tmp_path / "table.md").read_text()


def test_a_bad_flag_is_named():
    with pytest.raises(ValueError, match=r"^steps: got 0"):
        data_wait.Config(steps=0)
