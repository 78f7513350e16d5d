"""Two files of one name play the same part in parallel packages, so that a name leads to one place."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import maesil

SOURCE = Path(maesil.__file__).parent
PARALLEL = {
    "base.py": "the abstract class of a catalogue",
    "card.py": "the card of a run and of an encoder",
    "config.py": "settings of the package",
    "figures.py": "figures of a report and of a comparison",
    "labels.py": "labels of a list and of a store",
    "load.py": "loading a run and loading an encoder",
    "lock.py": "one process at a time in a store and in a run",
    "module.py": "Lightning modules of the tasks",
    "network.py": "networks of the tasks",
    "nnunet.py": "nnU-Net's layout and its export",
    "page.py": "pages of a report and of a comparison",
    "tables.py": "tables of an evaluation, a comparison and a task",
    "train.py": "trainings of the tasks",
}
"""Name of a file to the part that it plays in every package that has one."""


def test_names__a_file_is_found_by_its_name() -> None:
    places = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        if (
            path.name != "__init__.py" and path.parent.name != "commands"
        ):  # a command has the name of its function's file
            places[path.name].append(str(path.relative_to(SOURCE)))
    repeated = {name: found for name, found in places.items() if len(found) > 1}
    assert repeated.keys() - PARALLEL.keys() == set(), {
        name: repeated[name] for name in repeated.keys() - PARALLEL.keys()
    }
    assert PARALLEL.keys() - repeated.keys() == set(), "no longer repeated"
