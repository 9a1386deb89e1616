"""Who may ask: named secrets, sent as a bearer token or kept in a cookie."""

import hashlib
import hmac
import os
import pathlib
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from cada_jax.common.errors import MissingFileError, UsageError

COOKIE = "cada_token"
VARIABLE = "CADA_TOKEN"


class Tokens:
    """The secrets that open the server; none means that nobody needs one.

    Args:
      secrets: name -> secret. The name stands in the audit log.
    """

    def __init__(self, secrets: Mapping[str, str]):
        for name, secret in secrets.items():
            if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
                raise UsageError(
                    f"the token {name!r} is empty or holds a blank or another character than "
                    "ASCII's: expected for instance what `openssl rand -hex 16` prints"
                )
        self._secrets = {name: secret.encode() for name, secret in secrets.items()}

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def name_of(self, secret: str) -> str | None:
        """The name of a secret, None if it is none; a wrong one takes as long as a right one."""
        return self._find(secret, self._secrets)

    def cookie_of(self, secret: str) -> str:
        """What the cookie holds: a digest, so that nobody reads the secret off a browser."""
        return hashlib.blake2b(secret.encode(), person=b"cada cookie", digest_size=32).hexdigest()

    def holder(self, headers: Mapping[str, str]) -> str | None:
        """The name of the token that a request carries, None if it carries no right one.

        Args:
          headers: of the request; names in lower case.
        """
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.name_of(secret.strip())
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return None
        if COOKIE not in cookies:
            return None
        digests = {n: self.cookie_of(s.decode()).encode() for n, s in self._secrets.items()}
        return self._find(cookies[COOKIE].value, digests)

    def _find(self, given: str, known: Mapping[str, bytes]) -> str | None:
        # Every known one is compared, in a time that does not depend on where they differ.
        found = None
        for name, value in known.items():
            if hmac.compare_digest(given.encode("utf-8", "surrogatepass"), value):
                found = name
        return found


def read_tokens(
    token: str | None, token_file: str | None, environment: Mapping[str, str]
) -> Tokens:
    """The tokens of the flags and of the environment.

    Args:
      token: of the flag, None without it.
      token_file: lines of a name, a blank and a secret; blank lines and those with # are skipped.
      environment: CADA_TOKEN is read where the flag is not given.

    Raises:
      UsageError: a token or the file is not what it has to be.
    """
    secrets = {}
    token = environment.get(VARIABLE) or None if token is None else token
    if token is not None:
        secrets["token"] = token
    if token_file:
        secrets |= _file(pathlib.Path(token_file).expanduser())
    return Tokens(secrets)


def _file(path: pathlib.Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"--token_file={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--token_file={os.fspath(path)} cannot be read: {reason}") from None
    secrets = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 2 or parts[0] in secrets:
            raise UsageError(
                f"{path}, line {number}: expected a new name, a blank and a secret (NAME SECRET)"
            )
        secrets[parts[0]] = parts[1]
    if not secrets:
        raise UsageError(f"{path} holds no token, expected lines of NAME SECRET")
    return secrets
