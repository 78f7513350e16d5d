"""A run: its folder, its settings, what its checkpoints say of it, and the verb that trains one."""
