import zipfile
from pathlib import Path

import pytest

from triform.data.quarantine import BadFile
from triform.data.raw_files import list_raw_files, open_raw_files, plant_key
from triform.errors import DataError


def make(root: Path, members: dict[str, bytes], *, zipped: bool) -> Path:
    if zipped:
        with zipfile.ZipFile(root.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return root.with_suffix(".zip")
    for member, data in members.items():
        (root / member).parent.mkdir(parents=True, exist_ok=True)
        (root / member).write_bytes(data)
    return root


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("nesting", ["", "RawPCD_10k/", "datasets/RawPCD_10k/RawPCD_10k/"])
def test_names_do_not_depend_on_folders_that_all_share(tmp_path: Path, zipped: bool, nesting: str) -> None:
    root = make(tmp_path / "raw", {f"{nesting}0002.ply": b"two", f"{nesting}0001.PLY": b"one", f"{nesting}notes.txt": b"x"}, zipped=zipped)
    source = list_raw_files(root)
    assert [(file.name, file.num_bytes) for file in source.files] == [("0001", 3), ("0002", 3)]
    with open_raw_files(root) as read:
        assert [read(file.member) for file in source.files] == [b"one", b"two"]


def test_folders_that_differ_stay_in_the_name(tmp_path: Path) -> None:
    root = make(tmp_path / "raw", {"all/a/1.ply": b"", "all/b/1.ply": b"", "all/2.ply": b""}, zipped=False)
    assert [(file.name, file.stem) for file in list_raw_files(root).files] == [("2", "2"), ("a/1", "1"), ("b/1", "1")]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path / "raw", {"x/1.ply": b"", "__MACOSX/x/._1.ply": b"", "x/.2.ply": b"", ".trash/3.ply": b""}, zipped=True)
    assert [file.name for file in list_raw_files(root).files] == ["1"]


def test_names_from_an_archive_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "raw", {"../../up.ply": b"", "/abs.ply": b"", "a\\..\\b.ply": b"", "A/B.ply": b"", "c:d.ply": b""}, zipped=True)
    names = [file.name for file in list_raw_files(root).files]
    assert sorted(names) == ["A/B", "a/b~2", "abs", "c_d", "up"]


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no archive")
    for path, message in [("missing", "does not exist"), ("empty", "no .ply file"), ("text.txt", "can't be listed")]:
        with pytest.raises(DataError, match=message):
            list_raw_files(tmp_path / path)


def test_a_damaged_member_is_a_bad_file(tmp_path: Path) -> None:
    root = make(tmp_path / "raw", {"1.ply": bytes(range(256)) * 40}, zipped=True)
    data = bytearray(root.read_bytes())
    data[60:80] = bytes(20)
    root.write_bytes(data)
    with open_raw_files(root) as read, pytest.raises(BadFile, match="can't be read"):
        read("1.ply")


@pytest.mark.parametrize("text", ["0007.ply", "7", " 7.0 ", "0007", "07.PLY"])
def test_spellings_of_a_plant(text: str) -> None:
    assert plant_key(text) == "7"
    assert plant_key("B73-01") == plant_key("b73-01.ply") == "b73-01"
