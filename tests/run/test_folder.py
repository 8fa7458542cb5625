"""A run's folder: one identity for good, sealed records, errors of the disk."""

import errno

import pytest

from triform.errors import CannotWrite, ConfigConflict, DiskFull
from triform.files import create_durably, disk_errors, write_durably
from triform.run.folder import RunFolder, sealed, unsealed


def identity(learning_rate):
    return {"name": "a", "fingerprint": f"f{learning_rate}", "experiment": {"training": {"learning_rate": learning_rate}}}


def test_the_first_identity_stays(tmp_path):
    folder = RunFolder(tmp_path / "a")
    folder.found({**identity(0.1), "created": 1})
    assert folder.found({**identity(0.1), "created": 2})["created"] == 1


def test_another_experiment_is_told_what_differs(tmp_path):
    folder = RunFolder(tmp_path)
    folder.found(identity(0.1))
    with pytest.raises(ConfigConflict, match=r"training.learning_rate was 0.1 and is now 0.2") as caught:
        folder.found(identity(0.2))
    assert caught.value.exit_code == 79


def test_a_seal_shows_any_change():
    value = {"step": 3, "sha256": "ab"}
    assert unsealed(sealed(value)) == value
    assert unsealed({**sealed(value), "step": 4}) is None
    assert unsealed(value) is None
    assert unsealed(None) is None


def test_files_are_created_once_and_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    assert create_durably(path, b"one")
    assert not create_durably(path, b"two")
    assert path.read_bytes() == b"one"
    write_durably(path, b"three")
    assert path.read_bytes() == b"three"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EROFS, CannotWrite)])
def test_the_disks_refusals_have_names(tmp_path, number, kind):
    with pytest.raises(kind), disk_errors(tmp_path):
        raise OSError(number, "told by the system")
