"""Seasonal product recommendation with language models."""
