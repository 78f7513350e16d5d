"""The secret that turns identities into names: the same names in every run, and irreversible without the secret.

The salt is never written to a store. By default it is random and kept in the user's own configuration folder, so that a
store can be shared as it is; to get the same names on another machine, use the same salt.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import platformdirs

from maesil.errors import ConfigError

HASH_LENGTH = 16
_CHECK_ROUNDS = 100_000


def hashed(salt: str, kind: str, value: str) -> str:
    """The 16 hexadecimal digits that stand for `value`; `kind` separates equal values of different kinds."""
    message = f"{kind}\0{value}".encode()
    return hmac.new(salt.encode(), message, hashlib.sha256).hexdigest()[:HASH_LENGTH]


def salt_check(salt: str) -> str:
    """The check that a store keeps to detect another salt; slow to compute, so that guessing is slow as well."""
    digest = hashlib.pbkdf2_hmac("sha256", salt.encode(), b"maesil salt check", _CHECK_ROUNDS)
    return digest.hex()[:HASH_LENGTH]


def salt_path() -> Path:
    """The file of the user's own salt."""
    return platformdirs.user_config_path("maesil") / "salt"


def kept_salt() -> str:
    """The user's own salt, generated on first use and readable by the user only.

    Raises:
        ConfigError: The salt can be neither read nor written.
    """
    path = salt_path()
    try:
        if not path.exists():
            _make(path)
        salt = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        fix = "give a salt of your own (--salt), or make the folder writable"
        raise ConfigError(f"the salt cannot be read or written: {error.strerror}", where=path, fix=fix) from error
    if not salt:
        raise ConfigError("the salt file is empty", where=path, fix="delete it; the next run generates a new salt")
    return salt


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".salt-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(secrets.token_hex(32) + "\n")
    try:
        # A link fails if another process was first; both then read the same salt.
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        draft.replace(path)
    draft.unlink(missing_ok=True)
