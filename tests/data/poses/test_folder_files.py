from pathlib import Path

from triform.data.poses.folder_files import files_below


def test_what_is_listed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in ("root/b/c/2.NPZ", "root/1.npz", "root/1.txt", "root/.hidden/3.npz", "root/._1.npz", "elsewhere/4.npz"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (root / "folder.npz").mkdir()
    (root / "gone.npz").symlink_to(tmp_path / "nowhere")
    (root / "link.npz").symlink_to(elsewhere / "4.npz")
    for name in ("d", "d again"):
        (root / name).symlink_to(elsewhere, target_is_directory=True)
    (root / "b" / "loop").symlink_to(root, target_is_directory=True)
    found = [path.relative_to(root).as_posix() for path in files_below(root, ".npz")]
    assert found == ["1.npz", "b/c/2.NPZ", "d/4.npz", "link.npz"]
    assert files_below(tmp_path / "nowhere", ".npz") == []
