"""The operator's window: presenters, widgets and panels with fake readings."""
