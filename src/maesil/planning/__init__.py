"""The command `plan`: what a run will need, before it starts."""
