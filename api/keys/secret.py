"""The text of a key: xpo_<32 random bytes, base32>_<crc32>. The checksum tells a cut key from a wrong one."""

import base64
import hashlib
import secrets
import zlib

PREFIX = "xpo_"
SHOWN = 10
"""Characters of a key that are kept in the clear, to tell keys apart."""


def new_secret(prefix: str = PREFIX) -> str:
    """A new key."""
    body = prefix + base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def well_formed(secret: str, prefix: str = PREFIX) -> bool:
    """Whether this can be a key at all."""
    body, _, check = secret.rpartition("_")
    return secret.startswith(prefix) and check == f"{zlib.crc32(body.encode()):08x}"


def sha256(secret: str) -> str:
    """What is kept of a secret; it has 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
