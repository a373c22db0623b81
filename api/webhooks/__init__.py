"""Webhooks: who is told when a run ends or waits."""
