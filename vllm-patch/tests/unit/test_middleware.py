"""The middleware: objects become strings, everything else passes as it came."""

import asyncio
import json
import unittest
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest import mock

from payload import payload
from tensorpow_vllm import exposition
from tensorpow_vllm.arrivals import payload_of
from tensorpow_vllm.middleware import PowMiddleware, rewritten

POST = "/v1/chat/completions"


class Application:
    """An application that keeps what it is asked and answers with its length."""

    def __init__(self, content_type: bytes = b"application/json") -> None:
        self.bodies: list[bytes] = []
        self.messages: list[Mapping[str, Any]] = []
        self.scope: Mapping[str, Any] = {}
        self.content_type = content_type

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        self.scope = scope
        parts = []
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self.bodies.append(b"".join(parts))
        headers = [(b"content-type", self.content_type), (b"content-length", b"7")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ans", "more_body": True})
        await send({"type": "http.response.body", "body": b"wer\n"})


def ask(
    app: Application, parts: list[bytes], path: str = POST, method: str = "POST", ends: bool = True
) -> list[Any]:
    """Sends a request in parts; returns the messages of the response."""
    length = str(sum(map(len, parts))).encode()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"Host", b"a"), (b"Content-Length", length)],
    }
    last = len(parts) - 1
    coming = [
        {"type": "http.request", "body": part, "more_body": at < last or not ends}
        for at, part in enumerate(parts)
    ]
    coming.append({"type": "http.disconnect"})
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(PowMiddleware(app)(scope, receive, send))
    return sent


class Bodies(unittest.TestCase):
    def test_what_has_no_object_to_turn_passes_byte_for_byte(self) -> None:
        text = json.dumps(payload())
        bodies: list[bytes] = [
            b"",
            b"{",
            b'{"model": "a",  "temperature": 1.0e0}',
            b'{"vllm_xargs": {"pow": }',
            b'"pow"',
            b'["pow"]',
            b'\xff\xfe"pow"',
            b"[" * 100_000 + b'"pow"',
            b'{"messages": [{"content": "a \\"pow\\" and \\"pow\\": {}"}]}',
            b'{"messages": [{"content": "pow", "pow": {"a": 1}}]}',
            b'{"vllm_xargs": "pow", "a": {"pow": 1}}',
            b'{"vllm_xargs": ["pow"], "extra_sampling_params": {"pow": {}}}',
            b'{"extra_sampling_params": "pow", "a": {"pow": 1}}',
            json.dumps({"vllm_xargs": {"pow": text}}).encode(),
        ]
        for body in bodies:
            with self.subTest(body=body[:60]):
                self.assertIsNone(rewritten(body))
                app = Application()
                ask(app, [body])
                self.assertEqual(app.bodies, [body])
                self.assertEqual(dict(app.scope["headers"])[b"Content-Length"], str(len(body)).encode())

    def test_an_object_becomes_a_string_under_the_new_key(self) -> None:
        pow_ = payload(ipfs_cid="ü😀\ud800", big=2**70, small=1e-320)
        other = {"pow": {"not": "this"}}
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"vllm_xargs": {"a": 1, "pow": pow_}}, {"vllm_xargs": {"a": 1}}),
            ({"extra_sampling_params": {"pow": pow_}}, {"vllm_xargs": {}}),
            (
                {"extra_sampling_params": {"b": 2, "pow": pow_}, "vllm_xargs": {"a": 1}},
                {"extra_sampling_params": {"b": 2}, "vllm_xargs": {"a": 1}},
            ),
            ({"extra_sampling_params": {"pow": json.dumps(pow_)}}, {"vllm_xargs": {}}),
            ({"extra_sampling_params": {"pow": pow_}, "vllm_xargs": None}, {"vllm_xargs": {}}),
            ({"extra_sampling_params": {"pow": pow_}, "vllm_xargs": {"pow": None}}, {"vllm_xargs": {}}),
            ({"extra_sampling_params": other, "vllm_xargs": {"pow": pow_}}, {"vllm_xargs": {}}),
            (
                {"extra_sampling_params": other, "vllm_xargs": {"pow": json.dumps(pow_)}},
                {"vllm_xargs": {}},
            ),
        ]
        for asked, rest in cases:
            with self.subTest(asked=list(asked)):
                app = Application()
                ask(app, [json.dumps({"model": "a", "stream": True, **asked}).encode()])
                (body,) = app.bodies
                self.assertEqual(dict(app.scope["headers"])[b"Content-Length"], str(len(body)).encode())
                request = json.loads(body)
                text = request["vllm_xargs"].pop("pow")
                self.assertIsInstance(text, str)
                self.assertEqual(json.loads(text), pow_)
                self.assertEqual(request, {"model": "a", "stream": True, **rest})

    def test_a_null_is_as_good_as_absent(self) -> None:
        app = Application()
        ask(app, [b'{"vllm_xargs": {"pow": null, "a": 1}}'])
        self.assertEqual(json.loads(app.bodies[0]), {"vllm_xargs": {"a": 1}})

    def test_other_forms_go_on_as_the_json_they_are_and_are_judged_later(self) -> None:
        for pow_ in (7, [1], True, "text"):
            body = rewritten(json.dumps({"extra_sampling_params": {"pow": pow_}}).encode())
            assert body is not None
            found = payload_of(json.loads(body)["vllm_xargs"])
            self.assertEqual(found, pow_ if isinstance(pow_, str) else json.dumps(pow_))

    def test_a_body_may_come_in_parts(self) -> None:
        body = json.dumps({"vllm_xargs": {"pow": payload()}}).encode()
        app = Application()
        ask(app, [body[:10], body[10:20], b"", body[20:]])
        self.assertIn("pow", json.loads(app.bodies[0])["vllm_xargs"])

    def test_a_body_above_the_limit_passes_and_is_not_gathered(self) -> None:
        parts = [b'{"vllm_xargs": {"pow": {}}, "a": "', b"x" * 1000, b"y" * 1000, b'"}']
        app = Application()
        with mock.patch.dict("os.environ", {"TENSORPOW_VLLM_MAX_BODY": "100"}):
            ask(app, parts)
        self.assertEqual(app.bodies, [b"".join(parts)])
        self.assertEqual(len(app.messages), len(parts))

    def test_a_client_that_goes_away_is_noticed_by_the_application(self) -> None:
        app = Application()
        ask(app, [b'{"vllm_xargs": {"pow"', b": {}"], ends=False)
        self.assertEqual(app.messages[-1]["type"], "http.disconnect")
        self.assertEqual(app.bodies, [])

    def test_other_routes_and_methods_are_not_read(self) -> None:
        body = json.dumps({"vllm_xargs": {"pow": payload()}}).encode()
        for path, method in (("/v1/embeddings", "POST"), (POST, "PUT"), ("/v1/models", "GET")):
            app = Application()
            ask(app, [body], path, method)
            self.assertEqual(app.bodies, [body])
        for path in ("/v1/completions", "/v1/responses", "/proxy/v1/chat/completions/"):
            app = Application()
            ask(app, [body], path)
            self.assertNotEqual(app.bodies, [body])

    def test_other_scopes_pass(self) -> None:
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        async def nothing(*_: Any) -> Any:
            return None

        for kind in ("lifespan", "websocket"):
            asyncio.run(PowMiddleware(app)({"type": kind}, nothing, nothing))
        self.assertEqual(seen, ["lifespan", "websocket"])


class Responses(unittest.TestCase):
    def test_a_response_passes_as_it_came(self) -> None:
        sent = ask(Application(), [b"{}"])
        self.assertEqual([one.get("body") for one in sent], [None, b"ans", b"wer\n"])

    def test_the_metrics_end_with_ours(self) -> None:
        app = Application(b"text/plain; version=0.0.4")
        with mock.patch.object(exposition, "gather", lambda: "tensorpow 1\n"):
            sent = ask(app, [b""], "/metrics", "GET")
        self.assertEqual(b"".join(one.get("body", b"") for one in sent), b"answer\ntensorpow 1\n")
        self.assertNotIn(b"content-length", dict(sent[0]["headers"]))

    def test_metrics_of_another_form_pass(self) -> None:
        with mock.patch.object(exposition, "gather", side_effect=AssertionError):
            sent = ask(Application(b"application/openmetrics-text"), [b""], "/metrics", "GET")
        self.assertEqual(b"".join(one.get("body", b"") for one in sent), b"answer\n")


if __name__ == "__main__":
    unittest.main()
