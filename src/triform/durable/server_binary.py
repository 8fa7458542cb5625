"""Where the Temporal CLI with its built-in server is found on this machine, and the one function that fetches it."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from triform.errors import ServerUnreachable
from triform.files import user_cache

CLI_VERSION = "v1.5.1"
"""The last release that `go install` accepts: from v1.6.0 on its go.mod has a `replace`. It holds server 1.29.1."""

MODULE = f"github.com/temporalio/cli/cmd/temporal@{CLI_VERSION}"
HOW_TO_GET_ONE = (
    "run `triform doctor --get-server`, or install Temporal's CLI (https://docs.temporal.io/cli) so that `temporal` is on PATH, "
    "or set TRIFORM_TEMPORAL to its path. `triform train` needs no server at all"
)
BY_HAND = (
    f"on a machine with a network run `GOBIN=$PWD go install {MODULE}`, or download the CLI from https://docs.temporal.io/cli; "
    "copy the file here and set TRIFORM_TEMPORAL to its path. `triform train` needs no server at all"
)


def cache_folder() -> Path:
    """The user's cache folder for the binary; not created here."""
    return user_cache() / "bin"


def find() -> Path | None:
    """The Temporal CLI to use: TRIFORM_TEMPORAL, then `temporal` on PATH, then the cache folder. None when there is none.

    Raises:
        ServerUnreachable: TRIFORM_TEMPORAL names something that can't be run.
    """
    if named := os.environ.get("TRIFORM_TEMPORAL"):
        path = Path(named).expanduser()
        if not _runnable(path):
            raise ServerUnreachable(
                f"TRIFORM_TEMPORAL is {named!r}, which is not an executable file",
                expected="the path of Temporal's CLI",
                do="correct the variable or unset it",
            )
        return path.absolute()
    if on_path := shutil.which("temporal"):
        return Path(on_path).absolute()
    return next((path for path in _cached() if _runnable(path)), None)


def version(path: Path) -> str:
    """What the binary calls itself, such as `1.5.1 (Server 1.29.1, UI 2.42.1)`.

    Raises:
        ServerUnreachable: it does not run, or is not Temporal's CLI.
    """
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
        text = (done.stdout or done.stderr).strip()
    except (OSError, subprocess.SubprocessError) as error:
        text, done = str(error), None
    if done is None or done.returncode != 0 or not text.startswith("temporal version "):
        raise ServerUnreachable(
            f"`{path} --version` said {text[:200]!r}",
            expected="`temporal version ...`",
            do="install Temporal's CLI for this machine's kind",
        )
    return text.removeprefix("temporal version ")


def server_version(version_text: str) -> str:
    """The server's part of `version()`: a CLI built from source and a downloaded one differ only in the rest."""
    match = re.search(r"Server ([^\s,)]+)", version_text)
    return match.group(1) if match else version_text


def obtain(say: Callable[[str], None]) -> Path:
    """`find()`, else fetch the CLI into the cache folder: the SDK's own download, else a build with Go. Nothing else downloads.

    Args:
        say: called with one line of text for each step that is needed.

    Raises:
        ServerUnreachable: neither way works here; the text names both reasons.
    """
    if (known := find()) is not None:
        return known
    reasons: list[str] = []
    for title, way in ((f"Downloading Temporal's CLI {CLI_VERSION} (about 100 MB)", _download), (f"Building {MODULE} with Go", _build)):
        say(f"{title} ...")
        try:
            return _install(way)
        except (RuntimeError, OSError, subprocess.SubprocessError, ServerUnreachable) as error:
            reasons.append(f"{title}: {' '.join(str(error).split())[-300:]}")
            say(f"That did not work: {reasons[-1]}")
    raise ServerUnreachable(f"no Temporal server binary can be had here. {'; '.join(reasons)}", expected="a download or Go", do=BY_HAND)


def _runnable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _cached() -> list[Path]:
    """Ours first, then what the SDK's own download leaves (newest first; unfinished ones have another suffix)."""
    folder = cache_folder()
    left = [path for path in folder.glob("temporal-sdk-python-*") if path.suffix != ".downloading"]
    return [folder / "temporal", *sorted(left, key=lambda path: path.stat().st_mtime, reverse=True)]


def _install(way: Callable[[Path], Path]) -> Path:
    """Make the binary in a scratch folder, try it, and move it into place, so that a cut download is never found."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="getting-") as scratch:
        made = way(Path(scratch))
        version(made)
        return made.replace(folder / "temporal")


def _download(scratch: Path) -> Path:
    from temporalio.testing import WorkflowEnvironment

    async def start_and_stop() -> None:
        environment = await WorkflowEnvironment.start_local(
            download_dest_dir=str(scratch), dev_server_download_version=CLI_VERSION, dev_server_startup_timeout=timedelta(seconds=30)
        )
        await environment.shutdown()

    asyncio.run(start_and_stop())
    made = [path for path in scratch.iterdir() if _runnable(path)]
    if len(made) != 1:
        raise RuntimeError(f"the download left {[path.name for path in made]}")
    return made[0]


def _build(scratch: Path) -> Path:
    """3.4 minutes on two cores, 252 MB."""
    go = shutil.which("go")
    if go is None:
        raise RuntimeError("there is no `go` on PATH")
    done = subprocess.run([go, "install", MODULE], env={**os.environ, "GOBIN": str(scratch)}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`go install` ended with {done.returncode}: {done.stderr.strip()}")
    return scratch / "temporal"
