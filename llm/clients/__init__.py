"""Calls of servers: one client for judges, for engines that sample, and for opponents."""
