"""Scorers: compiled functions for the transport loop, tables that they read."""
