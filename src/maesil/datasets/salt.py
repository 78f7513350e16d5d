"""The secret that turns identities into names: the same names in every run, no way back for those without it.

The salt never enters a store. By default it is a random one, kept in the user's own configuration folder, so that a
store can be given away as it is; on another machine the same names need the same salt.
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
    """The 16 hexadecimal digits by which `value` is known; `kind` keeps equal values of two kinds apart."""
    message = f"{kind}\0{value}".encode()
    return hmac.new(salt.encode(), message, hashlib.sha256).hexdigest()[:HASH_LENGTH]


def salt_check(salt: str) -> str:
    """What a store keeps to tell that another salt is used; slow to compute, so that guessing is slow as well."""
    digest = hashlib.pbkdf2_hmac("sha256", salt.encode(), b"maesil salt check", _CHECK_ROUNDS)
    return digest.hex()[:HASH_LENGTH]


def salt_path() -> Path:
    """Where the user's own salt is kept."""
    return platformdirs.user_config_path("maesil") / "salt"


def kept_salt() -> str:
    """The user's own salt, made at random on first use and readable by the user alone.

    Raises:
        ConfigError: It can neither be read nor made.
    """
    path = salt_path()
    try:
        if not path.exists():
            _make(path)
        salt = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        fix = "give a salt of your own (--salt), or make the folder writable"
        raise ConfigError(f"the salt cannot be kept: {error.strerror}", where=path, fix=fix) from error
    if not salt:
        raise ConfigError("the file of the salt is empty", where=path, fix="delete it; the next run makes a new salt")
    return salt


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".salt-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(secrets.token_hex(32) + "\n")
    try:
        # A link fails where another process was first; both then read the same salt.
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        draft.replace(path)
    draft.unlink(missing_ok=True)
