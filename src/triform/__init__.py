"""Triform trains 3D models so that a run can't be lost."""

__version__ = "0.1.0"
