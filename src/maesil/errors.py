"""Every error a user can cause: what went wrong, where, and what to do about it.

Commands print these without a traceback; any other exception is a bug in maesil.
"""

from __future__ import annotations


class MaesilError(Exception):
    """Base class of all errors that maesil raises on purpose.

    Args:
        what: One sentence that says what is wrong.
        where: The file, scan, step or key that it concerns.
        fix: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors are sent between processes.
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


class MaesilWarning(UserWarning):
    """Something that a user should know about a result; commands print it as one line."""


class ConfigError(MaesilError):
    """A setting is unknown, out of range or in conflict with another."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name is not in its catalogue."""


class ScanError(MaesilError):
    """A scan cannot be read, or must not be read as if it were sound."""


class NoScanError(ScanError):
    """No file or folder has this name: the call is wrong, not the scan."""

    exit_code = 2


class KeptScanError(ScanError):
    """A scan is not written, because a store would lose what it has under this name."""


class OutputError(MaesilError, OSError):
    """A file or folder cannot be written: there is no room, or no permission."""


class StoreError(MaesilError):
    """A prepared store is missing, incomplete, or does not match the request."""

    exit_code = 2


class NoStoreError(StoreError):
    """A folder or an address is not that of a store."""


class EmptySplitError(StoreError):
    """A split has no superpatches: the store is too small to spare any, or its settings leave none."""


def reason(error: Exception) -> str:
    """What an error of the system or of a parser says, without the number and the path that Python puts around it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class CheckpointError(MaesilError):
    """A run folder or checkpoint is missing, incomplete, or does not match the request."""

    exit_code = 2


class DownloadError(MaesilError):
    """A file could not be downloaded, or is not the expected one."""


class MissingExtraError(MaesilError):
    """An optional package is needed; the message names the extra that installs it."""

    exit_code = 2


class WeightsError(MaesilError):
    """Pre-trained metric weights are missing or failed verification."""


class TrainingError(MaesilError):
    """Training had to stop: the loss is not finite, or there is nothing to train on."""
