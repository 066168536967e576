"""Thorlabs Elliptec ELL14 rotation mounts on one multidrop line."""
