"""Kuhn poker in text, and its theory."""
