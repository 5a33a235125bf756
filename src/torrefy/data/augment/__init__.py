"""Augmentation: what is done to training pictures by chance, declared in a data layer's text."""
