"""Thin Qt widgets and the edge to Tango: style, painting, editors, tables, curves, listeners, jobs."""
