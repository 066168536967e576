"""Tango as a client: proxies with deadlines, subscriptions that survive restarts, helpers of servers."""
