"""Prefect flows: what runs when, what is resumed, what is published."""
