"""Requests of the server tests, and what came back of them: token ids, not texts, are what is compared."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .vllm_server import NAME, Json, VllmServer

WINDOW = 256
PROFILE: Json = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
TOPICS = (
    *("tides", "bread", "an old library", "the moons of Jupiter", "chess", "bees", "paper", "volcanoes"),
    *("a fox who could count", "rivers", "a clock that ran backwards", "tea"),
)


@dataclass
class Asked:
    """One request and its answer."""

    kind: str
    path: str
    body: Json
    mined: bool = True
    leave_after: int | None = None
    """Streamed; the client goes away after so many tokens."""
    id: str = ""
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def windows(self) -> int:
        """Proofs that the request has to leave."""
        return len(self.tokens) // WINDOW if self.mined else 0


def completion(
    kind: str, prompt: str | list[str] | list[int], tokens: int, pow_: Any = None, **more: Any
) -> Asked:
    """A request to `/v1/completions`, mined when it has a payload and nothing speaks against it."""
    body: Json = {"model": NAME, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **PROFILE}
    return _made(kind, "/v1/completions", body, pow_, more)


def chat(kind: str, topic: str, tokens: int, pow_: Any = None, **more: Any) -> Asked:
    """A request to `/v1/chat/completions`."""
    messages = [{"role": "user", "content": f"Write a long text about {topic}."}]
    body: Json = {"model": NAME, "messages": messages, "max_tokens": tokens, "ignore_eos": True, **PROFILE}
    return _made(kind, "/v1/chat/completions", body, pow_, more)


def story(topic: str, words: int = 8) -> str:
    """A prompt of about so many words."""
    sentence = f"A long story about {topic}, told slowly by the fire. "
    return (sentence * (words // 10 + 1)) + "Once"


def _made(kind: str, path: str, body: Json, pow_: Any, more: Json) -> Asked:
    if pow_ is not None:
        body["vllm_xargs"] = {"pow": pow_}
    mined = bool(more.pop("mined", pow_ is not None))
    return Asked(kind, path, {**body, "return_token_ids": True, **more}, mined)


def ask(server: VllmServer, asked: Asked) -> Asked:
    """Sends one request and fills in what came back."""
    if asked.leave_after is not None:
        return _ask_and_leave(server, asked, asked.leave_after)
    if asked.body.get("stream"):
        return _ask_and_leave(server, asked, 1 << 30)
    answer = server.post(asked.path, asked.body)
    asked.id = answer["id"]
    choices = answer["choices"]
    asked.prompt = choices[0].get("prompt_token_ids") or answer.get("prompt_token_ids") or []
    asked.tokens = [token for choice in choices for token in choice.get("token_ids") or []]
    asked.texts = [
        str(choice.get("text") or (choice.get("message") or {}).get("content")) for choice in choices
    ]
    return asked


def _ask_and_leave(server: VllmServer, asked: Asked, after: int) -> Asked:
    for event in server.stream(asked.path, asked.body):
        asked.id = event.get("id") or asked.id
        for choice in event.get("choices") or []:
            asked.prompt = (
                asked.prompt or choice.get("prompt_token_ids") or event.get("prompt_token_ids") or []
            )
            asked.tokens += choice.get("token_ids") or []
        if len(asked.tokens) >= after:
            break
    return asked


def ask_all(server: VllmServer, run: Iterable[Asked], at_once: int) -> list[Asked]:
    """Sends requests, so many at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda one: ask(server, one), run))
