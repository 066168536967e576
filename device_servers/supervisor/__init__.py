"""Keeps the servers of a host alive: the spawner forks them, the supervisor decides."""
