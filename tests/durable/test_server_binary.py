"""Where the binary is looked for, what counts as one, and how it is obtained (with stand-ins for the network and for Go)."""

import os
from pathlib import Path

import pytest

from triform.durable import server_binary
from triform.errors import ServerUnreachable

SPEAKS = '#!/bin/sh\necho "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"\n'


def script(path: Path, text: str = SPEAKS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIFORM_TEMPORAL", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_variable_wins_over_path_and_path_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_binary.find() is None
    left_by_sdk = script(tmp_path / "cache/triform/bin/temporal-sdk-python-1.35.0")
    script(tmp_path / "cache/triform/bin/temporal-sdk-python-1.35.0.downloading")
    assert server_binary.find() == left_by_sdk
    cached = script(tmp_path / "cache/triform/bin/temporal")
    assert server_binary.find() == cached
    on_path = script(tmp_path / "path/temporal")
    assert server_binary.find() == on_path
    named = script(tmp_path / "named")
    monkeypatch.setenv("TRIFORM_TEMPORAL", str(named))
    assert server_binary.find() == named


def test_a_variable_that_names_no_program_is_an_error_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "path/temporal")
    monkeypatch.setenv("TRIFORM_TEMPORAL", str(tmp_path / "missing"))
    with pytest.raises(ServerUnreachable, match=r"TRIFORM_TEMPORAL is .*missing.*not an executable file"):
        server_binary.find()


def test_version_reads_what_the_binary_says_and_refuses_another_program(tmp_path: Path) -> None:
    assert server_binary.version(script(tmp_path / "good")) == "1.5.1 (Server 1.29.1, UI 2.42.1)"
    for text in ("#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 1\n", "not a program"):
        with pytest.raises(ServerUnreachable, match="--version` said"):
            server_binary.version(script(tmp_path / "bad", text))


def test_a_built_and_a_downloaded_cli_of_one_server_are_the_same_server() -> None:
    built, downloaded = "0.0.0-DEV (Server 1.29.1, UI 2.42.1)", "1.5.1 (Server 1.29.1, UI 2.42.1)"
    assert server_binary.server_version(built) == server_binary.server_version(downloaded) == "1.29.1"
    assert server_binary.server_version("an unknown version") == "an unknown version"


def no_network(_: Path) -> Path:
    raise RuntimeError("error sending request")


def test_obtain_builds_with_go_where_the_download_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_binary, "_download", no_network)
    script(
        tmp_path / "path/go",
        f"#!/bin/sh\n/bin/cat > $GOBIN/temporal <<'END'\n{SPEAKS}END\n/bin/chmod +x $GOBIN/temporal\necho $2 > {tmp_path}/asked\n",
    )
    said: list[str] = []
    path = server_binary.obtain(said.append)
    assert path == tmp_path / "cache/triform/bin/temporal" == server_binary.find()
    assert (tmp_path / "asked").read_text().strip() == "github.com/temporalio/cli/cmd/temporal@v1.5.1"
    assert [line.split()[0] for line in said] == ["Downloading", "That", "Building"]
    assert [file.name for file in path.parent.iterdir()] == ["temporal"], "no scratch folder is left"
    assert server_binary.obtain(said.append) == path
    assert len(said) == 3, "a second time nothing is fetched"


def test_obtain_names_both_reasons_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_binary, "_download", no_network)
    script(tmp_path / "path/go", "#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    with pytest.raises(ServerUnreachable, match=r"error sending request.*no space left.*TRIFORM_TEMPORAL"):
        server_binary.obtain(lambda _: None)
    assert list((tmp_path / "cache/triform/bin").iterdir()) == []
