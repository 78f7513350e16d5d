"""Training: Lightning's Trainer around a pretrainer."""
