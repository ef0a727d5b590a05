"""Lets a nested `pow` object through to the engine: stock vLLM takes scalars only in `vllm_xargs`
and does not read `extra_sampling_params`, so the object becomes a string that holds the same JSON.
spec: proxy §8

Bodies without a payload, and everything that is no JSON object, pass byte for byte. Installed by
the plugin; without it, `--middleware tensorpow_vllm.middleware.PowMiddleware` does the same.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tensorpow_vllm.settings import SettingError, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTES = ("/chat/completions", "/completions", "/responses")
METRICS = "/metrics"
NEW_KEY, OLD_KEY, PAYLOAD = "vllm_xargs", "extra_sampling_params", "pow"


class PowMiddleware:
    """An ASGI middleware around vLLM's application."""

    def __init__(self, app: App) -> None:
        self.app = app
        try:
            self.max_body = Settings.read().max_body
        except SettingError:
            self.max_body = Settings.max_body  # the plugin refuses to mine and says why

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].rstrip("/")
            if scope["method"] == "POST" and path.endswith(ROUTES):
                await self._completion(scope, receive, send)
                return
            if scope["method"] == "GET" and path.endswith(METRICS):
                await self.app(scope, receive, _Appending(send).send)
                return
        await self.app(scope, receive, send)

    async def _completion(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = await _read(receive, self.max_body)
        # A client that went away, or a body above the limit: as it came, and on as it comes.
        body = b"".join(message.get("body", b"") for message in read)
        is_whole = read[-1]["type"] == "http.request" and not read[-1].get("more_body", False)
        changed = rewritten(body) if is_whole else None
        if changed is not None:
            read = [{"type": "http.request", "body": changed, "more_body": False}]
            scope = {**scope, "headers": _with_length(scope["headers"], len(changed))}
        waiting = iter(read)

        async def replay() -> Message:
            message = next(waiting, None)
            return await receive() if message is None else message

        await self.app(scope, replay, send)


async def _read(receive: Receive, limit: int) -> list[Message]:
    """The messages of a body, as they came; not all of it above the limit."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False) or size > limit:
            return messages


def rewritten(body: bytes) -> bytes | None:
    """The body with its payload as a string under `vllm_xargs`; None to leave it as it is.

    Of several payloads the first that is not null counts, the new key's before the old one's.
    """
    if b'"pow"' not in body:
        return None
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict):
        return None
    new, old = request.get(NEW_KEY), request.get(OLD_KEY)
    if not isinstance(new, dict | None):
        return None
    arguments = dict(new or {})
    payload = arguments.pop(PAYLOAD, None)
    if payload is None and isinstance(old, dict):
        payload = old.get(PAYLOAD)
    if payload is not None:
        # Text goes on as text, whatever else as the JSON that it is.
        arguments[PAYLOAD] = payload if isinstance(payload, str) else json.dumps(payload)
    is_in_old = isinstance(old, dict) and PAYLOAD in old
    if arguments == (new or {}) and not is_in_old:
        return None
    request[NEW_KEY] = arguments
    if isinstance(old, dict):
        old.pop(PAYLOAD, None)
        if not old:
            del request[OLD_KEY]
    return json.dumps(request).encode()


def _with_length(headers: Any, length: int) -> list[tuple[bytes, bytes]]:
    """The headers of a body of another length; one that came in chunks still does."""
    return [
        (name, str(length).encode() if name.lower() == b"content-length" else value)
        for name, value in headers
    ]


class _Appending:
    """Sends a response with the counters of all processes at its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._appends = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            encoded = any(name == b"content-encoding" for name, _ in headers)
            plain = any(
                name == b"content-type" and value.startswith(b"text/plain") for name, value in headers
            )
            self._appends = message["status"] == 200 and plain and not encoded
            if self._appends:
                kept = [one for one in headers if one[0] != b"content-length"]
                message = {**message, "headers": kept}
        elif (
            message["type"] == "http.response.body" and self._appends and not message.get("more_body", False)
        ):
            # Here, so that nothing is imported or asked where nobody scrapes.
            from tensorpow_vllm import exposition

            text = await asyncio.get_running_loop().run_in_executor(None, exposition.gather)
            message = {**message, "body": message.get("body", b"") + text.encode()}
        await self._send(message)
