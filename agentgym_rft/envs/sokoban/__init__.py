"""Sokoban in text: push every box onto a target."""
