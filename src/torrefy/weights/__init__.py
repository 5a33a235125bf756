"""Formats of weights, and copying them by name."""
