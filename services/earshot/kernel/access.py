"""API keys as text, what they allow, and who is calling.

A key reads ``earshot_<43 characters><6 characters>``: 256 random bits, and the CRC-32 of the 43 characters, both in
base 62. So a key is told from other text, by a scanner of leaked secrets as well, and a mistyped one is refused without
asking anyone. The format is GitHub's (https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/).
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "write", "erase", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_TENANT = "default"
"""The tenant of ``EARSHOT_API_KEY``, and of who calls on loopback without a key. Its admins run the system."""
PREFIX = "earshot_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BITS = 256
_SECRET_CHARS, _CHECKSUM_CHARS = 43, 6
"""So many digits of base 62 hold 256 bits (62^43 > 2^256) and 32 bits (62^6 > 2^32)."""
_HINT_CHARS = len(PREFIX) + 4


@dataclass(frozen=True)
class Principal:
    """Who is calling.

    Attributes:
        tenant: whose things they may see at all.
        key_id: who they are, for the audit log: a key's id, ``environment``, ``local`` or ``oidc:<subject>``.
        scopes: what they may do.
        collections: the only collections they may see; ``None``: all of the tenant.
    """

    tenant: str
    key_id: str
    scopes: frozenset[str]
    collections: frozenset[str] | None = None

    @property
    def operator(self) -> bool:
        """Whether they run the system: they may make tenants, and keys of any."""
        return self.tenant == DEFAULT_TENANT and "admin" in self.scopes

    def sees(self, collection: str) -> bool:
        """Whether a collection is among those they may see."""
        return self.collections is None or collection in self.collections


def new_key() -> str:
    """A key that nobody had before."""
    secret = _base62(secrets.randbits(_SECRET_BITS), _SECRET_CHARS)
    return f"{PREFIX}{secret}{_checksum(secret)}"


def is_key(text: str) -> bool:
    """Whether a text is a key of ours as far as its form tells."""
    if len(text) != len(PREFIX) + _SECRET_CHARS + _CHECKSUM_CHARS or not text.startswith(PREFIX) or not text.isascii():
        return False
    return text.endswith(_checksum(text[len(PREFIX) : -_CHECKSUM_CHARS]))


def hash_of(key: str) -> str:
    """What is kept of a key: its SHA-256, as hex. Of 256 random bits nothing can be found by trying."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def hint_of(key: str) -> str:
    """The beginning of a key, by which its owner knows it again."""
    return key[:_HINT_CHARS]


def new_key_id() -> str:
    """The name of a key; no secret."""
    return f"key_{secrets.token_hex(8)}"


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECKSUM_CHARS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
