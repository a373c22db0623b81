"""Attempts: what a driver claims, reports and is told."""
