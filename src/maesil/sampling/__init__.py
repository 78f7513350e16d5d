"""Where files become tensors: superpatches of a store, in a resumable order."""
