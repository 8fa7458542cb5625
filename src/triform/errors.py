"""The exception tree. Each error says what was got, what was expected and what to do, and whether trying again can help."""

from typing import ClassVar


class TriformError(Exception):
    """The root: one paragraph for a person, an exit code for a script."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, got: str, *, expected: str = "", do: str = "") -> None:
        self.got, self.expected, self.do = got, expected, do
        super().__init__(got, expected, do)

    def __str__(self) -> str:
        parts = [self.got, f"Expected: {self.expected}" if self.expected else "", f"Do this: {self.do}" if self.do else ""]
        return " ".join(part if part.endswith((".", ":", "?")) else f"{part}." for part in parts if part)


class UsageError(TriformError):
    """The command line can't be read as a command."""

    exit_code = 2


class DataError(TriformError):
    """A data set is missing, broken, too small, or has too many bad files."""

    exit_code = 65


class ServerUnreachable(TriformError):
    """No Temporal server answers, or none can be had."""

    exit_code = 69
    retryable = True


class NoProgress(TriformError):
    """Trainers died again and again on the same spot."""

    exit_code = 70


class CannotWrite(TriformError):
    """A path can't be written: permissions, a read-only disk, or a live owner."""

    exit_code = 73


class RunInUse(CannotWrite):
    """Another live process trains in this run folder."""

    retryable = True


class DiskFull(TriformError):
    """The disk is full; the last commit is intact."""

    exit_code = 74
    retryable = True


class Stopped(TriformError):
    """Asked to stop: a checkpoint is committed and the run can go on."""

    exit_code = 75
    retryable = True


class LostOwnership(TriformError):
    """A later generation owns the run; nothing this process writes counts any more."""

    exit_code = 76


class Diverged(TriformError):
    """The loss or a gradient is no longer finite."""

    exit_code = 77


class ExperimentError(TriformError):
    """The experiment file or an override is wrong; every mistake is listed."""

    exit_code = 78


class ConfigConflict(TriformError):
    """Another experiment already has this run name."""

    exit_code = 79


BY_EXIT_CODE: dict[int, type[TriformError]] = {
    cls.exit_code: cls
    for cls in (
        UsageError,
        DataError,
        ServerUnreachable,
        NoProgress,
        CannotWrite,
        DiskFull,
        Stopped,
        LostOwnership,
        Diverged,
        ExperimentError,
        ConfigConflict,
    )
}
