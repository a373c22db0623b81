"""Bearer keys: who may do what."""
