"""Code in the documentation is code that runs: Python blocks are compiled, their names looked up, and some are run."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from torch.distributed.run import parse_args

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = ("docs/concepts.md", "docs/howto/mask.md")
"""Pages whose blocks need no files."""


def blocks() -> list[tuple[str, str]]:
    """Every Python block of README and docs, with its page."""
    pages = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [
        (page.relative_to(ROOT).as_posix(), block)
        for page in pages
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


BLOCKS = blocks()


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}-{n}" for n, (page, _) in enumerate(BLOCKS)])
def test_blocks__import_only_what_there_is(page: str, block: str) -> None:
    tree = ast.parse(block, filename=page)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("maesil"):
            assert node.module is not None
            module = import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or import_module(f"{node.module}.{name.name}"), (page, name.name)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in USED:
            assert hasattr(import_module(USED[node.value.id]), node.attr), (page, node.value.id, node.attr)


USED = {"maesil": "maesil", "pipeline": "maesil.pipeline", "presets": "maesil.presets"}
"""Names under which the blocks use our modules."""


@pytest.mark.parametrize("page", RUN)
def test_blocks__run(page: str) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    found = [block for where, block in BLOCKS if where == page]
    assert found
    for block in found:
        exec(compile(block, page, "exec", dont_inherit=True), names)


def test_mask_page__is_a_strategy_that_keeps_its_promises() -> None:
    (block,) = (block for page, block in BLOCKS if page == "docs/howto/mask.md")
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(block, "mask.md", "exec", dont_inherit=True), names)
    mask, box, grid = names["mask"], names["BoxMasking"], names["grid"]
    assert set(mask.sum(1).tolist()) == {box().masked_count(grid)}  # type: ignore[attr-defined, operator]


def test_reproducing__torchrun_takes_the_line_as_it_stands() -> None:
    lines = (DOCS / "reproducing.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("torchrun "))
    parsed = parse_args(shlex.split(line)[1:])
    assert parsed.training_script == "maesil"
    assert parsed.training_script_args[0] == "pretrain"
    assert "--run" in parsed.training_script_args, "an option of ours, which torchrun would take for one of its own"
