"""Losses: pure functions of scores and truth."""
