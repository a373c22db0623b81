"""Held-out evaluation: tables, metrics, intervals. No Ray."""
