"""Lists of vertices that a user wrote: text or .npy."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from triform.errors import DataError


def read_indices(path: Path, *, what: str) -> Int64[np.ndarray, " index"]:
    """Return the numbers of a text file, separated by blanks or lines, or of an .npy file.

    Args:
        what: the setting, for the message.

    Raises: DataError: the file can't be read, is empty, or holds something else than integers of 0 or more.
    """
    try:
        found = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else np.array(path.read_text().split(), np.float64)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(
            f"{path} can't be read: {reason}", expected="a text or .npy file of vertex numbers", do=f"correct {what}"
        ) from error
    indices = np.asarray(found, np.int64) if found.dtype.kind in "iuf" and np.isfinite(found).all() else np.empty(0, np.int64)
    if indices.ndim != 1 or not len(indices) or indices.min() < 0 or not np.array_equal(indices, found):
        raise DataError(f"{path} holds no plain list of vertex numbers", expected="integers of 0 or more", do=f"correct {what}")
    return indices


def digest_of_indices(indices: Int64[np.ndarray, " index"]) -> str:
    """A short name of a list's content, which stands for its path where paths may not count."""
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(indices, '<i8').tobytes()).hexdigest()}"
