import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from triform.data.poses.kept import forget, kept


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget()


def test_read_again_only_where_content_or_settings_are_others(tmp_path: Path) -> None:
    path, reads = tmp_path / "a", list[str]()

    def ask(*settings: object) -> str:
        def read() -> str:
            reads.append(path.read_text())
            return reads[-1]

        return kept(read, [path], *settings)

    path.write_text("one")
    assert [ask(), ask()] == ["one", "one"]
    assert len(reads) == 1
    path.write_text("two")
    assert ask() == "two"
    assert ask("other") == "two"
    assert len(reads) == 3
    assert ask() == "two"
    assert len(reads) == 4, "one is kept, for two may be more than memory holds"
    forget()
    ask()
    assert len(reads) == 5


def test_what_fails_is_not_kept(tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError("torn")

    for _ in range(2):
        with pytest.raises(ValueError, match="torn"):
            kept(fails, [tmp_path / "gone"])
    assert kept(lambda: 3, [tmp_path / "gone"]) == 3


def test_threads_wait_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    begun, reads = threading.Barrier(4), list[object]()

    def read() -> object:
        reads.append(object())
        return reads[-1]

    def ask(_: int) -> object:
        begun.wait(10)
        return kept(read, [tmp_path / "a"])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(reads) == 1
    assert set(found) == set(reads)
