"""The files of a folder that holds one recording a file."""

import os
from pathlib import Path


def files_below(root: Path, suffix: str) -> list[Path]:
    """Files whose names end so, in whatever case, at any depth and behind links, sorted; hidden ones and hidden folders are left out.

    A folder that is there by several names, such as one linked to from within itself, is entered by one of them.
    """
    found: list[Path] = []
    entered: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if name.lower().endswith(suffix) and not name.startswith(".")]
    return sorted(path for path in found if path.is_file())
