"""Staged checks of a density, and where the time of its gradient goes."""
