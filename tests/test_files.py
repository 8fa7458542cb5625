"""Files that are there whole or not at all."""

import os
from pathlib import Path

from triform.files import remove_dead_litter


def test_only_the_litter_of_dead_processes_goes(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    dead = [tmp_path / ".a.npz.999999999-0.tmp", tmp_path / "below" / ".b.h5.999999999-12-3.tmp", tmp_path / ".nobody.tmp"]
    kept = [tmp_path / f".a.npz.{os.getpid()}-0.tmp", tmp_path / "below" / f".b.h5.{os.getpid()}-12-3.tmp", tmp_path / "a.npz"]
    for path in [*dead, *kept]:
        path.write_bytes(b"half")
    remove_dead_litter(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
