"""The requests of the end-to-end run: thirty completions of every kind, and how one is sent and read."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from llama_server import Json

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct@b179c9523d0e6a0f98a330c7562b682750a6f8c8"
NAME = MODEL.split("@")[0]
ANSWER_LIMIT_S = 600.0

TOPICS = [
    "the history of tea",
    "how tides work",
    "a fox who could count",
    "the rules of chess",
    "volcanoes",
    "a lighthouse keeper",
    "bread baking",
    "the moons of Jupiter",
    "an old library",
    "how bees dance",
    "a city under the sea",
    "the invention of paper",
    "mountain rivers",
    "a clock that ran backwards",
]
SCHEMA: Json = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"type": "integer"}},
            "required": ["city", "size"],
        },
    },
}


@dataclass
class Asked:
    """One request of the run and what came of it."""

    kind: str
    path: str
    body: Json
    mined: bool = True
    cancel_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    id: str = ""
    text: str = ""
    tokens: int = 0
    logprobs: int = 0
    finish: str | None = None
    mining: str = ""


def chat(kind: str, topic: str, tokens: int, **more: Any) -> Asked:
    prompt = f"Write a long text about {topic}."
    body = {"model": NAME, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, **more}
    return Asked(kind, "/v1/chat/completions", body)


def text(kind: str, topic: str, tokens: int, **more: Any) -> Asked:
    body = {"model": NAME, "prompt": f"A long story about {topic}. Once", "max_tokens": tokens, **more}
    return Asked(kind, "/v1/completions", body)


def unmined(asked: Asked) -> Asked:
    asked.mined = False
    return asked


def cancelled(asked: Asked, after: int) -> Asked:
    asked.cancel_after = after
    asked.body["stream"] = True
    return asked


def thirty() -> list[Asked]:
    """The run: mined ones of 300 to 1200 tokens, and every kind that must leave no proof or fewer."""
    forever = {"ignore_eos": True}
    run = [
        chat("long", TOPICS[0], 1200, **forever),
        chat("long, streamed", TOPICS[1], 900, stream=True, **forever),
        text("long text", TOPICS[2], 768, **forever),
        text("long text, streamed", TOPICS[3], 600, stream=True, **forever),
        chat("exactly one window", TOPICS[4], 256, **forever),
        chat("one token short", TOPICS[5], 255, **forever),
        chat("two windows", TOPICS[6], 512, stream=True, **forever),
        text("300", TOPICS[7], 300, **forever),
        text("400, streamed", TOPICS[8], 400, stream=True, **forever),
        chat("ends by itself", TOPICS[9], 700),
        chat("ends by itself, streamed", TOPICS[10], 700, stream=True),
        text("ends by itself, text", TOPICS[11], 500),
        chat("logprobs", TOPICS[12], 320, logprobs=True, top_logprobs=2, **forever),
        text("logprobs, text", TOPICS[13], 300, logprobs=3, **forever),
        chat("stop words", TOPICS[0], 600, stop=["\n\n", "lighthouse"]),
        text("stop word", TOPICS[1], 600, stop=[" the end"]),
        chat("temperature and top-p", TOPICS[2], 300, temperature=0.7, top_p=0.9, top_k=20, **forever),
        chat("short", TOPICS[3], 20),
        text("short text", TOPICS[4], 40),
        cancelled(chat("cancelled early", TOPICS[5], 1200, **forever), after=60),
        cancelled(text("cancelled early, text", TOPICS[6], 1200, **forever), after=100),
        cancelled(chat("cancelled in window two", TOPICS[7], 1200, **forever), after=330),
        unmined(chat("seed", TOPICS[8], 300, seed=7, **forever)),
        unmined(chat("n = 2", TOPICS[9], 280, n=2, seed=3, **forever)),
        unmined(chat("json schema", TOPICS[10], 300, seed=4, response_format=SCHEMA)),
        unmined(text("penalty", TOPICS[11], 300, seed=5, presence_penalty=0.7, **forever)),
        unmined(text("min_p", TOPICS[12], 300, seed=5, min_p=0.2, **forever)),
        unmined(text("logit bias", TOPICS[13], 300, seed=5, logit_bias={"260": -4}, **forever)),
        unmined(chat("greedy", TOPICS[0], 300, temperature=0, seed=1, **forever)),
    ]
    opted_out = unmined(chat("opted out", TOPICS[1], 300, seed=9, **forever))
    opted_out.headers["x-tensorpow-mine"] = "off"
    return [*run, opted_out]


def ask(port: int, asked: Asked) -> Asked:
    """Sends one request and fills in what came back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        headers = {"Content-Type": "application/json", **asked.headers}
        connection.request("POST", asked.path, json.dumps(asked.body), headers)
        answer = connection.getresponse()
        asked.mining = answer.headers.get("x-tensorpow-mining", "")
        if answer.status != 200:
            raise AssertionError(f"{asked.kind}: {answer.status} {answer.read()[:300]!r}")
        if asked.body.get("stream"):
            read_stream(answer, asked)
        else:
            read_answer(json.loads(answer.read()), asked)
    finally:
        connection.close()
    return asked


def piece(choice: Json) -> str:
    return str(
        choice.get("text") or (choice.get("message") or choice.get("delta") or {}).get("content") or ""
    )


def read_answer(answer: Json, asked: Asked) -> None:
    asked.id = answer["id"]
    asked.tokens = answer["usage"]["completion_tokens"]
    asked.text = "\0".join(piece(choice) for choice in answer["choices"])
    asked.finish = answer["choices"][0]["finish_reason"]
    logprobs = answer["choices"][0].get("logprobs") or {}
    asked.logprobs = len(logprobs.get("content") or logprobs.get("tokens") or [])


def read_stream(answer: http.client.HTTPResponse, asked: Asked) -> None:
    pieces = 0
    while line := answer.readline():
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[len(b"data: ") :])
        asked.id = event.get("id") or asked.id
        if usage := event.get("usage"):
            asked.tokens = usage["completion_tokens"]
        for choice in event.get("choices") or []:
            asked.text += piece(choice)
            asked.finish = choice.get("finish_reason") or asked.finish
            pieces += 1
        if asked.cancel_after is not None and pieces >= asked.cancel_after:
            return  # the caller closes the connection
