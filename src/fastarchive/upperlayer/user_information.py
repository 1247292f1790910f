"""User information of A-ASSOCIATE (PS3.7 Annex D.3.3, PS3.8 Annex D)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User Identity sub-item of the requestor (PS3.7 D.3.3.7): type 1 user name, 2 name and passcode, 3 Kerberos,
    4 SAML, 5 JWT. Secrets: kept out of repr()."""

    type: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False

    def __repr__(self) -> str:
        return f"UserIdentity(type={self.type})"
