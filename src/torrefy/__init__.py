"""Torrefy: Caffe's models, roasted by Torch."""

__version__ = "0.1.0.dev0"
