"""The public commands as Python functions; `maesil COMMAND` has the same names and options.

A function is imported on first use: `prepare` needs no torch.

Example:
    >>> from pathlib import Path
    >>> from dataclasses import replace
    >>> from maesil import pipeline, presets
    >>> pipeline.prepare([Path("scans")], Path("store"))  # doctest: +SKIP
    >>> config = presets.base()  # doctest: +SKIP
    >>> config = replace(config, data=replace(config.data, store=Path("store")))  # doctest: +SKIP
    >>> pipeline.pretrain(config, Path("run"))  # doctest: +SKIP
    >>> pipeline.evaluate(Path("run"))  # doctest: +SKIP
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maesil.comparison.compare import compare
    from maesil.ct.examine import ScanFacts
    from maesil.ct.examine import examine_scan as check
    from maesil.datasets.nodule_files import write_nodules as nodules
    from maesil.datasets.unify import unify as datasets
    from maesil.demo import run_demo as demo
    from maesil.doctor import examine as doctor
    from maesil.encoder.embed import embed, similar
    from maesil.evaluation.evaluate import Evaluation, evaluate
    from maesil.evaluation.reconstruct import reconstruct
    from maesil.export.export_run import export_run as export
    from maesil.export.publish import Published, publish
    from maesil.planning.estimate import plan
    from maesil.report.masks import masks
    from maesil.report.run import report
    from maesil.report.table1 import write_table1
    from maesil.runs.pretrain import Outcome, pretrain
    from maesil.store.check import store
    from maesil.store.prepare import prepare
    from maesil.store.privacy import check_privacy
    from maesil.tasks.classification.finetune import finetune_classification
    from maesil.tasks.probe.probe import Probed, probe
    from maesil.tasks.segmentation.label_efficiency import compare_transfer
    from maesil.tasks.segmentation.score import predict, score_segmentation
    from maesil.tasks.segmentation.train import finetune_segmentation
    from maesil.view.view import view

__all__ = [
    "Evaluation",
    "Outcome",
    "Probed",
    "Published",
    "ScanFacts",
    "check",
    "check_privacy",
    "compare",
    "compare_transfer",
    "datasets",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "finetune_classification",
    "finetune_segmentation",
    "masks",
    "nodules",
    "plan",
    "predict",
    "prepare",
    "pretrain",
    "probe",
    "publish",
    "reconstruct",
    "report",
    "score_segmentation",
    "similar",
    "store",
    "view",
    "write_table1",
]

_PLACES = {
    "Evaluation": "evaluation.evaluate",
    "Outcome": "runs.pretrain",
    "Probed": "tasks.probe.probe",
    "Published": "export.publish",
    "ScanFacts": "ct.examine",
    "check": "ct.examine:examine_scan",
    "check_privacy": "store.privacy",
    "compare": "comparison.compare",
    "compare_transfer": "tasks.segmentation.label_efficiency",
    "datasets": "datasets.unify:unify",
    "demo": "demo:run_demo",
    "doctor": "doctor:examine",
    "embed": "encoder.embed",
    "evaluate": "evaluation.evaluate",
    "export": "export.export_run:export_run",
    "finetune_classification": "tasks.classification.finetune",
    "finetune_segmentation": "tasks.segmentation.train",
    "masks": "report.masks",
    "nodules": "datasets.nodule_files:write_nodules",
    "plan": "planning.estimate",
    "predict": "tasks.segmentation.score",
    "prepare": "store.prepare",
    "pretrain": "runs.pretrain",
    "probe": "tasks.probe.probe",
    "publish": "export.publish",
    "reconstruct": "evaluation.reconstruct",
    "report": "report.run",
    "score_segmentation": "tasks.segmentation.score",
    "similar": "encoder.embed",
    "store": "store.check",
    "view": "view.view",
    "write_table1": "report.table1",
}
"""Name to its module, and to its name there if that is another one."""


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'maesil.pipeline' has no attribute '{name}'")
    module, _, there = _PLACES[name].partition(":")
    return resolve_name(f"maesil.{module}:{there or name}")


def __dir__() -> list[str]:
    return list(_PLACES)
