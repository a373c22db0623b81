"""Prefixed random ids: run_…, key_…, ds_…; 72 bits, so that they are never guessed nor made twice."""

import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """A new id."""
    return f"{prefix}_{''.join(secrets.choice(ALPHABET) for _ in range(15))}"
