"""Whether a name of a file or folder is recognisably harmless: a public case name, not a patient's."""

from __future__ import annotations

import re
from itertools import pairwise

from maesil.datasets.public_words import NUMBERED, WORDS

LONGEST = 80
"""Most characters of a name that is taken for harmless."""

_SHORT_NUMBER = 5
"""Most digits of a number that is taken for a count; longer ones may be a date, or an id of a hospital."""

_ALLOWED = re.compile(r"[A-Za-z0-9 ._()+-]+")
_TOKEN = re.compile(r"[A-Za-z]+|\d+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_UID = re.compile(r"\d+(?:\.\d+){3,}")
_YEAR, _PAIR, _MARK = r"(?:19|20)\d\d", r"\d{1,2}", r"[ ._/-]"
DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}{_MARK}?[01]?\d{_MARK}[0-3]?\d|{_YEAR}[01]\d[0-3]\d"
    rf"|{_PAIR}{_MARK}{_PAIR}{_MARK}{_YEAR}|[0-3]\d[0-3]\d{_YEAR}|\d\d{_MARK}\d\d{_MARK}\d\d)(?!\d)"
)
"""A date in any common order, with or without marks between its parts."""
_SHORT_DATE = re.compile(
    rf"(?<!\d)(?:\d{{1,2}}(?P<mark>[._-])\d{{1,2}}(?P=mark)\d\d|\d\d([._-])\d{{1,2}}\2\d{{1,2}}"
    rf"|{_YEAR}[._-][01]?\d|[01]?\d[._-]{_YEAR})(?!\d)"
)
"""A date with a year of two digits, or without a day; in a text, this is rather a list of numbers."""


def harmless(name: str) -> bool:
    """Whether a name consists of words of public case names, single letters and short numbers, and holds no date.

    `s0001`, `case_001`, `LIDC-IDRI-0314` and `cptac_C3N-00247` are harmless. A name of a person, a date, initials, a
    long number, letters beyond ASCII, and any word that is not in `maesil.datasets.public_words` are not.
    """
    if len(name) > LONGEST or not _ALLOWED.fullmatch(name):
        return False
    if any(told.search(name) for told in (DATE, _SHORT_DATE, _UID)):
        return False
    tokens = _TOKEN.findall(name)
    return (
        bool(tokens)
        and all(
            _is_count(token, before) if token.isdigit() else _is_public(token, after)
            for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)
        )
        and not _has_initials(tokens)
    )


def _is_count(digits: str, word_before: str) -> bool:
    return len(digits) <= _SHORT_NUMBER or (digits.startswith("00") and word_before.lower() in WORDS)


def _is_public(word: str, after: str) -> bool:
    if len(word) == 1 or word.lower() in WORDS:
        return True
    if word.lower() in NUMBERED:
        return after.isdigit()
    pieces = _CAMEL.findall(word)
    return len(pieces) > 1 and all(piece.lower() in WORDS for piece in pieces)


def _has_initials(tokens: list[str]) -> bool:
    return any(len(one) == len(other) == 1 and (one + other).isalpha() for one, other in pairwise(tokens))
