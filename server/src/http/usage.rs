//! Token counts out of an answer, read as it passes by with bounded memory. Both spellings are
//! read, at the top, in a choice, and nested under `response`. spec: proxy §21.2

use serde::Deserialize;

/// Lines of a stream longer than this are not looked into.
const MAX_LINE: usize = 64 * 1024;

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
}

#[derive(Deserialize)]
struct UsageObject {
    #[serde(alias = "input_tokens", default)]
    prompt_tokens: u64,
    #[serde(alias = "output_tokens", default)]
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    usage: Option<UsageObject>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    usage: Option<UsageObject>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    response: Option<Nested>,
}

#[derive(Deserialize)]
struct Nested {
    #[serde(default)]
    usage: Option<UsageObject>,
}

impl Usage {
    /// The counts of a buffered answer or of one event; `None` when it has none.
    #[must_use]
    pub fn of_json(text: &[u8]) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(text).ok()?;
        let object = answer
            .usage
            .or(answer.response.and_then(|response| response.usage))
            .or(answer.choices.into_iter().find_map(|choice| choice.usage))?;
        let usage = Self { input: object.prompt_tokens, output: object.completion_tokens };
        (usage != Self::default()).then_some(usage)
    }
}

/// Reads the usage out of an SSE stream, piece by piece.
#[derive(Debug, Default)]
pub struct UsageScan {
    line: Vec<u8>,
    overlong: bool,
    last: Option<Usage>,
}

impl UsageScan {
    /// Takes the next piece of the stream. Returns how many events with data it ended, without the
    /// last word of a stream and the event that holds the usage.
    pub fn feed(&mut self, mut piece: &[u8]) -> u64 {
        let mut events = 0;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.extend(&piece[..end]);
            events += u64::from(self.end_line());
            piece = &piece[end + 1..];
        }
        self.extend(piece);
        events
    }

    /// The last usage seen so far.
    #[must_use]
    pub const fn found(&self) -> Option<Usage> {
        self.last
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.line.len() + bytes.len() > MAX_LINE {
            self.overlong = true;
            self.line.clear();
        } else if !self.overlong {
            self.line.extend_from_slice(bytes);
        }
    }

    /// True when the line was an event that may stand for a token.
    fn end_line(&mut self) -> bool {
        let mut is_event = false;
        if !self.overlong
            && let Some(data) = self.line.strip_prefix(b"data:")
        {
            is_event = data.trim_ascii() != b"[DONE]";
            let mentions = data.windows(7).any(|window| window == b"\"usage\"");
            if let Some(usage) = mentions.then(|| Usage::of_json(data.trim_ascii())).flatten() {
                self.last = Some(usage);
                is_event = false;
            }
        }
        self.overlong = false;
        self.line.clear();
        is_event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Option<Usage> {
        Some(Usage { input, output })
    }

    #[test]
    fn buffered_answers() {
        let cases: [(&str, Option<Usage>); 7] = [
            (r#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, usage(3, 5)),
            (r#"{"usage":{"input_tokens":3,"output_tokens":256}}"#, usage(3, 256)),
            (r#"{"response":{"usage":{"input_tokens":1,"output_tokens":2}}}"#, usage(1, 2)),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":{"prompt_tokens":0,"completion_tokens":0}}"#, None),
            ("[]", None),
            ("not json", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Usage::of_json(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn streams_in_pieces_of_any_size() {
        let cases = [
            (
                1,
                "data: {\"choices\":[]}\n\ndata: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9},\"choices\":[]}\n\ndata: [DONE]\n\n",
                usage(7, 9),
            ),
            (
                0,
                "data: {\"choices\":[{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}]}\n\n",
                usage(1, 2),
            ),
            (
                0,
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n",
                usage(3, 4),
            ),
            (
                0,
                "data:{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\r\n\r\n",
                usage(1, 1),
            ),
            (2, "data: {}\n\ndata: {}\r\n\r\n: note\n\ndata: [DONE]\n\n", None),
        ];
        for (tokens, stream, expected) in cases {
            for size in [1, 3, 1000] {
                let (mut scan, mut events) = (UsageScan::default(), 0);
                for piece in stream.as_bytes().chunks(size) {
                    events += scan.feed(piece);
                }
                assert_eq!((events, scan.found()), (tokens, expected), "{stream} by {size}");
            }
        }
    }

    #[test]
    fn an_endless_line_costs_no_memory() {
        let mut scan = UsageScan::default();
        for _ in 0..100 {
            scan.feed(&[b'x'; MAX_LINE / 2]);
            assert!(scan.line.len() <= MAX_LINE);
        }
        scan.feed(b"\ndata: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n");
        assert_eq!(scan.found(), usage(1, 1));
    }
}
