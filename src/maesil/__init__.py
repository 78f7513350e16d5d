"""maesil: masked-autoencoder pre-training on unlabeled 3D CT."""

__version__ = "0.1.0"
