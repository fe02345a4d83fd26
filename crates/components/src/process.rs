//! The line protocol of a component that is a program of its own.
//!
//! Althing writes one JSON object a line to the program's standard input, and the program answers
//! each with exactly one line on its standard output:
//!
//! | request | answer |
//! |---|---|
//! | `{"kind":"event","port":P,"value":V,"time_ns":T,"seed":S}` | `{"outputs":[{"port":P,"value":V},...]}` |
//! | `{"kind":"snapshot"}` | `{"state":J}` |
//! | `{"kind":"restore","state":J}` | `{"restored":true}` |
//! | any | `{"error":"why"}`: refused, and nothing has changed |
//!
//! This module encodes and decodes the lines and makes a [`Component`] of whatever can exchange
//! them. Starting the program and moving its bytes is the node's.

use crate::component::{Component, ComponentContext, ComponentError, OutputEvent};
use crate::value::{ValueError, canonical, parse_up_to};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

/// The longest line in either direction, without its line feed.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The longest excerpt of a line in an error.
const MAX_EXCERPT_CHARS: usize = 120;

/// What a program is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Request<'a> {
    /// To take an event.
    Event {
        /// The input port.
        port: &'a str,
        /// What arrived there.
        value: &'a Value,
        /// What all replicas agree on about it.
        context: &'a ComponentContext,
    },
    /// For its state.
    Snapshot,
    /// To replace its state.
    Restore {
        /// The state that a [`Answer::State`] held.
        state: &'a [u8],
    },
}

/// What a program answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To an event: the events it causes.
    Outputs(Vec<OutputEvent>),
    /// To a snapshot: the state, as canonical JSON.
    State(Vec<u8>),
    /// To a restore: done.
    Restored,
    /// To anything: refused.
    Error(String),
}

/// A line that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProcessError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("a line of {bytes} bytes, at most {MAX_LINE_BYTES} are allowed")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// Not JSON.
    #[error(
        "the program answered a line that is not JSON ({reason}): {excerpt}\nprint nothing but \
         answers to standard output, and messages to standard error"
    )]
    NotJson {
        /// What the parser says.
        reason: String,
        /// How the line begins.
        excerpt: String,
    },
    /// JSON, but not what the request asks for.
    #[error("the program answered {excerpt}\nwhere {expected} is expected ({reason})")]
    WrongShape {
        /// What the answer looks like.
        expected: &'static str,
        /// What is wrong.
        reason: String,
        /// How the line begins.
        excerpt: String,
    },
    /// A value that can't be kept exactly.
    #[error("the program answered a value that can't be kept exactly: {0}")]
    InexactValue(ValueError),
    /// A state from elsewhere that no program can have given.
    #[error("no state of a program: {0}")]
    BadState(ValueError),
}

impl From<ProcessError> for ComponentError {
    fn from(error: ProcessError) -> Self {
        match error {
            // The program said exactly one well-formed thing, and would say it at every replica.
            ProcessError::InexactValue(_) | ProcessError::BadState(_) => Self::Refused(error.to_string()),
            // Nobody knows what the next line would answer.
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The line that asks for `request`, with its line feed.
///
/// # Errors
/// [`ProcessError::BadState`] when the state to restore is no JSON; [`ProcessError::TooLong`].
pub fn encode_request(request: &Request<'_>) -> Result<Vec<u8>, ProcessError> {
    let object = match *request {
        Request::Event { port, value, context } => json!({
            "kind": "event",
            "port": port,
            "value": value,
            "time_ns": context.time_ns,
            "seed": hex(&context.seed),
        }),
        Request::Snapshot => json!({ "kind": "snapshot" }),
        Request::Restore { state } => {
            let state = parse_up_to(state, MAX_LINE_BYTES).map_err(ProcessError::BadState)?;
            json!({ "kind": "restore", "state": state })
        }
    };
    let mut line = canonical(&object);
    if line.len() > MAX_LINE_BYTES {
        return Err(ProcessError::TooLong { bytes: line.len() });
    }
    line.push(b'\n');
    Ok(line)
}

/// Reads the `line` that answers `request`, with or without its line feed.
///
/// # Errors
/// When it is no such answer.
pub fn decode_answer(request: &Request<'_>, line: &[u8]) -> Result<Answer, ProcessError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if line.len() > MAX_LINE_BYTES {
        return Err(ProcessError::TooLong { bytes: line.len() });
    }
    let value = match parse_up_to(line, MAX_LINE_BYTES) {
        Ok(value) => value,
        Err(error @ ValueError::InexactNumber { .. }) => return Err(ProcessError::InexactValue(error)),
        Err(ValueError::NotJson { reason }) => {
            return Err(ProcessError::NotJson { reason, excerpt: excerpt(line) });
        }
        Err(other) => {
            return Err(ProcessError::NotJson { reason: other.to_string(), excerpt: excerpt(line) });
        }
    };
    let (expected, answer) = match request {
        Request::Event { .. } => {
            ("{\"outputs\": [...]}", shape(value).map(|a: Outputs| Answer::Outputs(a.outputs)))
        }
        Request::Snapshot => {
            ("{\"state\": ...}", shape(value).map(|a: State| Answer::State(canonical(&a.state))))
        }
        Request::Restore { .. } => ("{\"restored\": true}", shape(value).and_then(restored)),
    };
    answer
        .or_else(|failure| failure.error.map(Answer::Error).ok_or(failure.reason))
        .map_err(|reason| ProcessError::WrongShape { expected, reason, excerpt: excerpt(line) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outputs {
    outputs: Vec<OutputEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    state: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restored {
    restored: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    error: String,
}

/// Why an answer was not of the expected shape, and its `error` if it is an error instead.
struct Mismatch {
    reason: String,
    error: Option<String>,
}

fn shape<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Mismatch> {
    T::deserialize(&value).map_err(|e| Mismatch {
        reason: e.to_string(),
        error: Failure::deserialize(&value).ok().map(|f| f.error),
    })
}

fn restored(answer: Restored) -> Result<Answer, Mismatch> {
    if answer.restored {
        return Ok(Answer::Restored);
    }
    let reason = "a program that does not restore says why with `error`".to_owned();
    Err(Mismatch { reason, error: None })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * MAX_EXCERPT_CHARS)]);
    let mut excerpt: String =
        text.chars().take(MAX_EXCERPT_CHARS).map(|c| if c.is_control() { '�' } else { c }).collect();
    if excerpt.len() < line.len() {
        excerpt.push('…');
    }
    excerpt
}

/// Exchanges lines with a running program.
pub trait Exchange: Send {
    /// Sends `line`, which ends with a line feed, and returns the program's next line.
    ///
    /// # Errors
    /// With what happened when there is none: the program ended, took too long, or wrote more than
    /// [`MAX_LINE_BYTES`] without a line feed.
    fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, String>;
}

/// A component that is a program of its own.
///
/// Its state before the first event is whatever the program starts with, so that a restart needs a
/// new program and a [`Component::restore`].
#[derive(Debug)]
pub struct ProcessComponent<E> {
    program: E,
}

impl<E: Exchange> ProcessComponent<E> {
    /// A component that asks `program`.
    pub fn new(program: E) -> Self {
        Self { program }
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<Answer, ComponentError> {
        let line = encode_request(request)?;
        let answer = self.program.exchange(&line).map_err(ComponentError::Broken)?;
        Ok(decode_answer(request, &answer)?)
    }
}

impl<E: Exchange> Component for ProcessComponent<E> {
    fn on_event(
        &mut self,
        port: &str,
        value: &Value,
        context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        match self.ask(&Request::Event { port, value, context })? {
            Answer::Outputs(outputs) => Ok(outputs),
            Answer::Error(reason) => Err(ComponentError::Refused(reason)),
            other => unreachable!("{other:?} answers no event"),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        match self.ask(&Request::Snapshot)? {
            Answer::State(state) => Ok(state),
            Answer::Error(reason) => Err(ComponentError::Broken(format!("it gives no snapshot: {reason}"))),
            other => unreachable!("{other:?} answers no snapshot"),
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        match self.ask(&Request::Restore { state })? {
            Answer::Restored => Ok(()),
            Answer::Error(reason) => Err(ComponentError::Refused(reason)),
            other => unreachable!("{other:?} answers no restore"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: ComponentContext =
        ComponentContext { time_ns: 1_700_000_000_000_000_001, seed: [0xab; 32] };

    fn event(value: &Value) -> Request<'_> {
        Request::Event { port: "temperature", value, context: &CONTEXT }
    }

    #[test]
    fn requests_are_one_line_each() {
        let value = json!("two\nlines");
        let line = String::from_utf8(encode_request(&event(&value)).unwrap()).unwrap();
        let seed = "ab".repeat(32);
        assert_eq!(
            line,
            format!(
                r#"{{"kind":"event","port":"temperature","seed":"{seed}","time_ns":1700000000000000001,"value":"two\nlines"}}"#
            ) + "\n"
        );
        assert_eq!(encode_request(&Request::Snapshot).unwrap(), b"{\"kind\":\"snapshot\"}\n");
        let restore = encode_request(&Request::Restore { state: b"{\"b\":1, \"a\":2}" });
        assert_eq!(restore.unwrap(), b"{\"kind\":\"restore\",\"state\":{\"a\":2,\"b\":1}}\n");
        let broken = encode_request(&Request::Restore { state: b"}" });
        assert!(matches!(broken, Err(ProcessError::BadState(_))));
    }

    #[test]
    fn answers_are_read_by_what_was_asked() {
        let value = json!(1);
        let outputs =
            decode_answer(&event(&value), b"{\"outputs\":[{\"port\":\"heater\",\"value\":true}]}\r\n");
        assert_eq!(outputs, Ok(Answer::Outputs(vec![OutputEvent::new("heater", true)])));
        let state = decode_answer(&Request::Snapshot, b"{\"state\": {\"z\": 1.50, \"a\": null}}\n");
        assert_eq!(state, Ok(Answer::State(b"{\"a\":null,\"z\":1.5}".to_vec())));
        let restore = Request::Restore { state: b"null" };
        assert_eq!(decode_answer(&restore, b"{\"restored\":true}"), Ok(Answer::Restored));
        let error = Ok(Answer::Error("too hot".into()));
        for request in [event(&value), Request::Snapshot, restore] {
            assert_eq!(decode_answer(&request, b"{\"error\":\"too hot\"}"), error);
        }
    }

    #[test]
    fn what_breaks_the_contract_is_told_apart() {
        let value = json!(1);
        let message = |line: &[u8]| decode_answer(&event(&value), line).unwrap_err().to_string();
        assert_eq!(
            message(b"debug: got 21\n"),
            "the program answered a line that is not JSON (expected value at line 1 column 1): debug: got 21\n\
             print nothing but answers to standard output, and messages to standard error"
        );
        assert_eq!(
            message(b"{\"output\":[]}"),
            "the program answered {\"output\":[]}\nwhere {\"outputs\": [...]} is expected \
             (unknown field `output`, expected `outputs`)"
        );
        for line in
            ["", "[]", "{}", "{\"outputs\":[],\"error\":\"x\"}", "{\"outputs\":[{\"port\":\"p\"}]}", "{} {}"]
        {
            let error: ComponentError = decode_answer(&event(&value), line.as_bytes()).unwrap_err().into();
            assert!(matches!(error, ComponentError::Broken(_)), "{line}");
        }
        let big = b"{\"outputs\":[{\"port\":\"p\",\"value\":99999999999999999999}]}";
        let error: ComponentError = decode_answer(&event(&value), big).unwrap_err().into();
        assert!(matches!(error, ComponentError::Refused(_)));
        assert!(decode_answer(&Request::Restore { state: b"1" }, b"{\"restored\":false}").is_err());
        let long = vec![b' '; MAX_LINE_BYTES + 1];
        assert!(matches!(decode_answer(&Request::Snapshot, &long), Err(ProcessError::TooLong { .. })));
    }

    struct Script(Vec<Result<&'static str, &'static str>>);

    impl Exchange for Script {
        fn exchange(&mut self, _line: &[u8]) -> Result<Vec<u8>, String> {
            self.0.pop().unwrap().map(|a| a.as_bytes().to_vec()).map_err(str::to_owned)
        }
    }

    #[test]
    fn a_program_is_a_component() {
        let mut component = ProcessComponent::new(Script(vec![
            Err("it ended with status 1"),
            Ok("{\"error\":\"no\"}"),
            Ok("{\"error\":\"no\"}"),
            Ok("{\"state\":3}"),
            Ok("{\"outputs\":[]}"),
        ]));
        assert_eq!(component.on_event("p", &json!(1), &CONTEXT), Ok(vec![]));
        assert_eq!(component.snapshot(), Ok(b"3".to_vec()));
        assert_eq!(component.restore(b"3"), Err(ComponentError::Refused("no".into())));
        assert!(matches!(component.snapshot(), Err(ComponentError::Broken(_))));
        let ended = Err(ComponentError::Broken("it ended with status 1".into()));
        assert_eq!(component.on_event("p", &json!(1), &CONTEXT), ended);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            for request in [Request::Snapshot, Request::Restore { state: b"1" }] {
                let _ = decode_answer(&request, &line);
            }
        }
    }
}
