"""Every error a user can cause: what went wrong, where, and what to do about it.

Commands print these without a traceback; anything else that escapes is a bug of ours.
"""

from __future__ import annotations


class MaesilError(Exception):
    """Base of all errors that maesil raises on purpose.

    Args:
        what: One sentence that says what is wrong.
        where: The file, scan, step or key it concerns.
        fix: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross process borders.
        return _rebuild, (type(self), self.what, self.where, self.fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.fix is not None:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


def _rebuild(kind: type[MaesilError], what: str, where: str | None, fix: str | None) -> MaesilError:
    return kind(what, where=where, fix=fix)


class ConfigError(MaesilError):
    """A setting is unknown, out of range or in conflict with another."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name is not in its catalogue."""


class ScanError(MaesilError):
    """A scan cannot be read, or must not be read as if it were sound."""


class NoScanError(ScanError):
    """There is no file or folder of this name: the call is wrong, not a scan."""

    exit_code = 2


class StoreError(MaesilError):
    """A prepared store is missing, incomplete, or at odds with what is asked of it."""

    exit_code = 2


class EmptySplitError(StoreError):
    """A split has no superpatch: the store is too small to spare any, or its settings leave none."""


class CheckpointError(MaesilError):
    """A run folder or checkpoint is missing, incomplete or does not fit."""

    exit_code = 2


class DownloadError(MaesilError):
    """A file could not be fetched, or is not the file that was expected."""


class MissingExtraError(MaesilError):
    """An optional package is needed; the message names the extra that installs it."""

    exit_code = 2


class WeightsError(MaesilError):
    """Pre-trained metric weights are absent or failed their verification."""


class TrainingError(MaesilError):
    """Training had to stop: a loss that is not finite, or nothing to train on."""
