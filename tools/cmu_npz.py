"""Turns CMU motion capture in one .npz (`train_<action>_<number>`, root-relative, and `<key>__root`) into a folder for `pose_npz`.

Usage: python tools/cmu_npz.py FILE FOLDER
"""

import argparse
import re
from pathlib import Path

import numpy as np

FRAME_RATE = 60.0


def main() -> None:
    """Write `<action>_<number>.npz` for every sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.file, allow_pickle=False) as stored:
        for key in stored.files:
            if not key.endswith("__root"):
                write_sequence(arguments.folder, key, stored[key] + stored[f"{key}__root"][:, None])


def write_sequence(folder: Path, key: str, joints_3d_mm: np.ndarray) -> None:
    """Write one sequence under the name that its key ends in."""
    name = key.removeprefix("train_")
    action = re.sub(r"_\d+x?$", "", name)
    np.savez_compressed(
        folder / f"{name}.npz", joints_3d_mm=joints_3d_mm, skeleton="h36m_17", frame_rate=FRAME_RATE, subject="cmu", action=action
    )


if __name__ == "__main__":
    main()
