"""What every instrument's device server is made of: the line, polling, states, the device base, streams."""
