"""Wire-level simulators: served on real pseudo-terminals or TCP ports, with one optical bench behind them."""
