"""Operator panels: presenters decide (no Qt), widgets paint, panels compose them."""
