"""A run: its folder, its settings, the description in its checkpoints, and the command that trains one."""
