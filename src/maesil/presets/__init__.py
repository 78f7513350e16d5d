"""Named full configurations, and baselines sized to match one."""
