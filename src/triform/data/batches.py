"""What the preparations of all kinds of data share: batches in threads, and the refusal of what other settings made."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

from triform.errors import DataError

OneMore = Callable[[], None]


def in_threads(
    do_batch: Callable[[int, OneMore], None], num_batches: int, *, num_files: int, workers: int, progress: Callable[[int, int], None]
) -> None:
    """Do every batch; the first error cancels those that have not begun.

    Args:
        do_batch: Does the batch of this number and calls its second argument after each file.
        progress: Called with the number of files done and of all.
    """
    done, lock = 0, threading.Lock()

    def one_more() -> None:
        nonlocal done
        with lock:
            done += 1
            progress(done, num_files)

    with ThreadPoolExecutor(max(1, workers), "prepare") as pool:
        batches = [pool.submit(do_batch, number, one_more) for number in range(num_batches)]
        try:
            for batch in as_completed(batches):
                batch.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def refuse_other_recipe(data_dir: str, *, wanted: Any, found: Any) -> None:
    """Raises: DataError: a folder was prepared by another recipe; the message names the fields."""
    asked, made = asdict(wanted), asdict(found)
    if other := [f"{name} is {made[name]!r}, not {asked[name]!r}" for name in asked if asked[name] != made[name]]:
        raise DataError(
            f"{data_dir} was prepared by other settings: {'; '.join(other)}",
            expected="the settings it was prepared by",
            do="give those settings, or prepare the raw files again",
        )
