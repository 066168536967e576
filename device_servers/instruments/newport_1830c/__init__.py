"""Newport 1830-C optical power meter."""
