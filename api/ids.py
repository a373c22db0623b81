"""Prefixed random ids: run_…, key_…, ds_…; 75 bits, so that they are never guessed nor made twice."""

import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """A new id."""
    return f"{prefix}_{''.join(ALPHABET[byte & 31] for byte in secrets.token_bytes(15))}"
