"""What the openai client does with an engine, done with the proxy in front of it.

Arguments: the URL of a proxy that is open to this machine, that of one that wants a key, and the key.
"""

import sys
from collections.abc import Callable

import openai

MODEL = "org/tiny"
WORDS = "word " * 64
MESSAGES = [{"role": "user", "content": "Count to three."}]


def check(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"{what}: got {got!r}, expected {expected!r}")


def chat(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    answer = raw.parse()
    check("mining", raw.headers["x-tensorpow-mining"], "mined")
    check("text", answer.choices[0].message.content, WORDS)
    check("tokens", answer.usage.completion_tokens, 64)
    check("id", answer.id, f"chatcmpl-{raw.headers['x-tensorpow-request-id']}")


def chat_stream(client: openai.OpenAI) -> None:
    text, usage = "", None
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                text += chunk.choices[0].delta.content
            usage = chunk.usage or usage
    check("streamed text", text, WORDS)
    check("usage of the stream", usage.completion_tokens, 64)


def completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once")
    check("completion", answer.choices[0].text, WORDS)
    pieces = client.completions.create(model=MODEL, prompt="Once", stream=True)
    text = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    check("streamed completion", text, WORDS)


def responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Once")
    check("response", answer.output_text, WORDS)
    check("output tokens", answer.usage.output_tokens, 64)
    with client.responses.stream(model=MODEL, input="Once") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    check("streamed response", text, WORDS)
    check("final response", final.output_text, WORDS)
    check("stored response", client.responses.retrieve(answer.id).id, answer.id)
    check("cancelled response", client.responses.cancel(answer.id).status, "cancelled")


def embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float")
    check("embeddings", [entry.embedding for entry in answer.data], [[0.5, -0.25, 1.0]] * 2)


def models(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    check("models", [model.id for model in listed], ["mock"])
    check("context", listed[0].model_dump()["max_model_len"], 8192)


def opt_out(client: openai.OpenAI) -> None:
    headers = {"x-tensorpow-mine": "off"}
    create = client.chat.completions.with_raw_response.create
    raw = create(model=MODEL, messages=MESSAGES, extra_headers=headers)
    check("opt-out", raw.headers["x-tensorpow-mining"], "off; reason=opt_out")
    raw = create(model=MODEL, messages=MESSAGES, seed=7)
    check("seed", raw.headers["x-tensorpow-mining"], "off; reason=off_profile; parameter=seed")


def errors(client: openai.OpenAI) -> None:
    try:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"vllm_xargs": [1]})
    except openai.BadRequestError as error:
        check("error code", error.code, "invalid_body")
        check("error type", error.type, "invalid_request_error")
    else:
        raise AssertionError("a bad body was taken")
    try:
        client.get("/nothing", cast_to=object)
    except openai.NotFoundError as error:
        check("error code", error.code, "not_found")
    else:
        raise AssertionError("an unknown route was found")


def wrong_key(url: str) -> None:
    try:
        openai.OpenAI(base_url=url, api_key="sk-other", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        check("error code", error.code, "invalid_api_key")
    else:
        raise AssertionError("a wrong key was taken")


STEPS: list[Callable[[openai.OpenAI], None]] = [
    chat,
    chat_stream,
    completions,
    responses,
    embeddings,
    models,
    opt_out,
    errors,
]


def main() -> None:
    open_url, guarded_url, key = sys.argv[1:]
    for url, api_key in ((open_url, "anything"), (guarded_url, key)):
        client = openai.OpenAI(base_url=url, api_key=api_key, max_retries=0)
        for step in STEPS:
            step(client)
            print(f"  {step.__name__} ok")
    wrong_key(guarded_url)


if __name__ == "__main__":
    main()
