from __future__ import annotations

import pytest

from maesil.evaluation.notes import held_out_note


@pytest.mark.parametrize(
    ("held", "said", "unsaid"),
    [
        ((3, 0, None), "by patient: 3 patients.", "unseen"),
        ((1, 0, None), "by patient: 1 patient.", "unseen"),
        ((1, 1, 1), "by superpatch: 1 superpatch of 1 patient whose other superpatches were", "never saw"),
        ((3, 3, 12), "by superpatch: 12 superpatches of 3 patients whose other superpatches were", "never saw"),
        ((3, 1, 12), "12 superpatches of 3 patients; other superpatches of 1 of them were trained on", "never saw"),
        ((3, 2, None), "by scan: scans of 3 patients; other scans of 2 of them were trained on", "never saw"),
    ],
)
def test_held_out_note__says_what_training_saw(held: tuple[int, int, int | None], said: str, unsaid: str) -> None:
    note = held_out_note("test", *held)
    assert said in note
    assert unsaid not in note
