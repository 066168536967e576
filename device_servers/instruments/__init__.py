"""Instruments: one package per model, all alike (protocol, driver, sim, device)."""
