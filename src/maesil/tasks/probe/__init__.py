"""Probes of frozen features: what an encoder's tokens tell about organs and regions, against random weights."""
