import pytest

from experiments.command_line import one_line_errors, preset_named

PRESETS = {"demo": 1, "smoke": 2}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 1),
        (["train"], 1),
        (["train", "--preset", "smoke"], 2),
        (["--preset=smoke", "--window=3"], 2),
        (["--preset=fast"], 1),
        (["--preset"], 1),
    ],
)
def test_the_preset_is_the_one_that_is_named(arguments, expected):
    assert preset_named(arguments, PRESETS) == expected


def test_an_error_of_the_user_is_one_line_and_one_of_ours_a_traceback(capsys):
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise ValueError("window: got 0, expected at least 1")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: window: got 0, expected at least 1\n"
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
