"""The error tree: a code a kind, one paragraph."""

from triform.errors import BY_EXIT_CODE, DataError, DiskFull, RunInUse, Stopped, TriformError


def test_each_kind_has_its_code():
    names = {code: kind.__name__ for code, kind in BY_EXIT_CODE.items()}
    assert names == {
        2: "UsageError",
        65: "DataError",
        69: "ServerUnreachable",
        70: "NoProgress",
        73: "CannotWrite",
        74: "DiskFull",
        75: "Stopped",
        76: "LostOwnership",
        77: "Diverged",
        78: "ExperimentError",
        79: "ConfigConflict",
    }
    assert RunInUse.exit_code == 73


def test_one_paragraph_of_got_expected_and_what_to_do():
    error = DataError("The folder is empty", expected="a .ply file", do="copy one there.")
    assert str(error) == "The folder is empty. Expected: a .ply file. Do this: copy one there."
    assert str(TriformError("Short.")) == "Short."


def test_trying_again_helps_where_the_world_can_change():
    assert DiskFull.retryable
    assert Stopped.retryable
    assert RunInUse.retryable
    assert not DataError.retryable
