"""bandoneon: an instrument suite for Tango Controls.

Importing this package loads nothing heavy; see `bandoneon.client` for the Python API.
"""
