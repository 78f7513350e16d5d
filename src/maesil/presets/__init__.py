"""Full configurations by name, and the baselines sized to match one."""

from __future__ import annotations

from maesil.presets.presets import DEMO_SPACING_MM, PRESETS, base, demo, paper, paper_union

__all__ = ["DEMO_SPACING_MM", "PRESETS", "base", "demo", "paper", "paper_union"]
