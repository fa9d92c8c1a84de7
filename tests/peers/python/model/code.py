"""Referral codes: how they are drawn, and the canonical form in which they are looked up."""

import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FOLDED = str.maketrans("OIL", "011", "-")


def drawn() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def canonical(code: str) -> str:
    return code.upper().translate(_FOLDED)
