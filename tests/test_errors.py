"""The error tree: one paragraph each, and whether trying again can help; exit codes are in test_cli.py."""

from triform.errors import DataError, DiskFull, RunInUse, Stopped, TriformError


def test_one_paragraph_of_got_expected_and_what_to_do():
    error = DataError("The folder is empty", expected="a .ply file", do="copy one there.")
    assert str(error) == "The folder is empty. Expected: a .ply file. Do this: copy one there."
    assert str(TriformError("Short.")) == "Short."


def test_trying_again_helps_where_the_world_can_change():
    assert DiskFull.retryable
    assert Stopped.retryable
    assert RunInUse.retryable
    assert not DataError.retryable
