"""Where readings come from: one module per way, behind the protocol in `base`."""
