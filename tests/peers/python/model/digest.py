"""Digests: devices under the fingerprint key, hashed ids for events, and webhook signatures."""

import base64
import hashlib
import hmac

from .settings import FINGERPRINT_KEY, WEBHOOK_SECRETS

_KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in WEBHOOK_SECRETS]


def device(fingerprint: str | None) -> str | None:
    if fingerprint is None:
        return None
    digest = hmac.digest(FINGERPRINT_KEY, fingerprint.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def hashed(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:16]


def signature(identifier: str, seconds: int, body: str) -> str:
    """The header `webhook-signature` of Standard Webhooks: one signature for each secret."""
    content = f"{identifier}.{seconds}.{body}".encode()
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}" for key in _KEYS)
