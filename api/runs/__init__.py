"""Runs: submission, queue, life, views."""
