"""Datasets over REST: uploaded or registered, read and checked before they may be named by a run."""
