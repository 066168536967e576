"""The cards of the main window, each a composition of widgets around its presenter."""
