"""Who may ask the server: token, Host and Origin of every request; headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_JSON = 64 * 1024  # bytes of a request that is no upload
LOOPBACK = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Door:
    """Who is let in.

    Attributes
    ----------
    host : str
        What the server listens on.
    token : str
        Needed in every request; empty: none is.
    upload_path : str
        The one path whose requests may be larger than ``MOST_JSON``.
    most_upload : int
        Bytes of such a request.
    """

    host: str = "127.0.0.1"
    token: str = ""
    upload_path: str = "/api/scans"
    most_upload: int = 2**30

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token; servers on other ports have others."""
        return f"fmrilm-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    def knows_host(self, given: str) -> bool:
        """Whether the Host of a request is this server's own, not one that was rebound to it."""
        try:
            name = (urlsplit(f"//{given}").hostname or "").lower()
        except ValueError:
            return False
        if name in LOOPBACK or name == self.host.lower():
            return True
        if is_loopback(self.host):
            return False
        try:  # nobody can rebind an address
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return name in (socket.gethostname().lower(), socket.getfqdn().lower())

    def knows_token(self, given: str | None) -> bool:
        """Whether a token is the right one, compared in constant time."""
        if not self.token:
            return True
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def refusal(self, headers: dict[str, str], path: str, query: str) -> tuple[int, str] | None:
        """Status and reason for which a request is refused; None if it is let in."""
        host = headers.get("host", "")
        if not self.knows_host(host):
            return 421, "this server does not go by that name"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "requests of other pages are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "requests of other pages are refused"
        if not self.knows_token(self._token_of(headers, path, query)):
            return 401, "open the address that `fmrilm web` printed: it holds the token"
        return None

    def _token_of(self, headers: dict[str, str], path: str, query: str) -> str | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return given.strip()
        if path == "/" and "token=" in query:
            return parse_qs(query).get("token", [""])[0]
        try:
            crumb = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return None if crumb is None else crumb.value


class Guard:
    """ASGI middleware in front of everything: lets in whom the door knows, counts bytes.

    Parameters
    ----------
    app : ASGI application
    door : Door
    """

    def __init__(self, app: App, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        refusal = self.door.refusal(headers, scope["path"], query)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        is_upload = scope["path"] == self.door.upload_path
        most = self.door.most_upload if is_upload else MOST_JSON
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            await _refuse(send, 413, f"the request is larger than {most} bytes")
            return
        await self._counted(scope, receive, send, most)

    async def _counted(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, most: int
    ) -> None:
        total = 0

        async def count() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > most:
                raise HTTPException(413, f"the request is larger than {most} bytes")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in own
                ]
            await send(message)

        await self.app(scope, count, with_headers)


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = {**HEADERS, "content-type": "application/json", "content-length": str(len(body))}
    headers["connection"] = "close"
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
