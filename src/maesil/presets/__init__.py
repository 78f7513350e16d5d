"""Full configurations by name, and the baselines sized to match one."""
