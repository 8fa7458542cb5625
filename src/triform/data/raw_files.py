"""Finds .ply files in a folder or a zip archive, at any depth, and reads them by name."""

import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from triform.data.quarantine import BadFile
from triform.errors import DataError

Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class RawFile:
    """One .ply file."""

    name: str
    """What the cloud is called: the path below the folder that holds all files, without `.ply`; unique, also where case is lost."""
    member: str
    """Path below the root folder, or inside the archive."""
    num_bytes: int

    @property
    def stem(self) -> str:
        """The file's own name, without its folders."""
        return PurePosixPath(self.name).name


@dataclass(frozen=True, slots=True)
class RawFiles:
    """All raw files below one root, sorted by name."""

    root: Path
    files: tuple[RawFile, ...]
    group_of: Mapping[str, str] = field(default_factory=dict)
    """Name of a cloud -> what must not span two splits; a cloud that isn't named is a group by itself."""

    def grouped_by(self, genotype_of: Mapping[str, str]) -> "RawFiles":
        """Group the clouds by a table from plant number (see `plant_key`) to genotype."""
        groups = {file.name: f"genotype {genotype_of[key]}" for file in self.files if (key := plant_key(file.stem)) in genotype_of}
        return replace(self, group_of={**self.group_of, **groups})


def plant_key(text: str) -> str:
    """One spelling for `0007.ply`, `0007`, `7`, `7.0` and ` 7 `; names compare without case."""
    text = text.strip().casefold().removesuffix(".ply")
    return str(int(text.removesuffix(".0"))) if re.fullmatch(r"\d{1,18}(\.0)?", text, re.ASCII) else text


def list_raw_files(root: Path) -> RawFiles:
    """List the .ply files of a folder or a zip archive; hidden files and `__MACOSX` are passed over.

    Raises: DataError: `root` is missing, is neither of both, can't be listed, or holds no .ply file.
    """
    try:
        sizes = dict(_walk_folder(root) if root.is_dir() else _walk_archive(root))
    except FileNotFoundError:
        raise DataError(f"{root} does not exist", expected="a folder or zip archive of .ply files", do="correct --data-dir") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{root} can't be listed: {error}", expected="a folder or zip archive of .ply files", do="check --data-dir"
        ) from error
    if not sizes:
        raise DataError(f"{root} holds no .ply file", expected="one .ply file a plant, at any depth", do="correct --data-dir")
    names = _names(sorted(sizes))
    files = (RawFile(names[member], member, sizes[member]) for member in names)
    return RawFiles(root, tuple(sorted(files, key=lambda file: file.name)))


@contextmanager
def open_raw_files(root: Path) -> Iterator[Read]:
    """Give a function that reads a member's bytes, and raises BadFile where they can't be read."""
    if root.is_dir():
        yield lambda member: _read(lambda: (root / member).read_bytes())
    else:
        with _open_archive(root) as archive:
            yield lambda member: _read(lambda: archive.read(member))


def _open_archive(root: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{root} can't be opened: {error}", expected="the archive that was listed", do="check --data-dir") from error


def _read(read: Callable[[], bytes]) -> bytes:
    # RuntimeError: an encrypted member. NotImplementedError: a compression method this Python lacks.
    try:
        return read()
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadFile(f"can't be read: {reason}") from error


def _walk_folder(root: Path) -> Iterator[tuple[str, int]]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(root, onerror=refuse):
        for name in names:
            path = Path(folder, name)
            if _is_wanted(path.relative_to(root).as_posix()):
                # A dangling link has no size; reading it says what is wrong.
                yield path.relative_to(root).as_posix(), path.stat().st_size if path.exists() else 0


def _walk_archive(root: Path) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(root) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_wanted(member.filename):
                yield member.filename, member.file_size


def _is_wanted(member: str) -> bool:
    parts = _parts(member)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return bool(parts) and parts[-1].lower().endswith(".ply") and not hidden


def _parts(member: str) -> list[str]:
    """The path's words, safe to write below a folder of ours on any system, whatever an archive says."""
    words = (re.sub(r'[<>:"|?*\x00-\x1f]', "_", word) for word in member.replace("\\", "/").split("/"))
    return [word for word in words if word not in {"", ".", ".."}]


def _names(members: Iterable[str]) -> dict[str, str]:
    """Member -> name. The folders that all members share are left out: an archive and its unpacked folder give the same names."""
    parts = {member: _parts(member) for member in members}
    shared = len(_parts(posixpath.commonpath(["/".join(words[:-1]) for words in parts.values()])))
    names: dict[str, str] = {}
    taken: set[str] = set()
    for member, words in parts.items():
        stem = name = "/".join(words[shared:])[: -len(".ply")]
        number = 2
        while name.casefold() in taken:
            name, number = f"{stem}~{number}", number + 1
        taken.add(name.casefold())
        names[member] = name
    return names
