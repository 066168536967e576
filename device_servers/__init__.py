"""Tango device servers: instruments, simulators, the supervisor, and what they are made of."""
