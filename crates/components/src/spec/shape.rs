use super::MAX_SPEC_BYTES;
use super::nearest::nearest;
use super::problem::{Problem, Problems, Span};
use super::rule::Rule;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::Error;
use std::collections::BTreeMap;

/// The keys that make a file a system of sites.
const KEYS_OF_SITES: [&str; 2] = ["sites", "wide"];

/// Whether a spec file describes a system of sites, as far as that can be told.
pub(super) fn is_of_sites(text: &str) -> bool {
    if text.len() > MAX_SPEC_BYTES {
        return false;
    }
    match serde_saphyr::from_str_with_options::<BTreeMap<String, IgnoredAny>>(text, options()) {
        Ok(keys) => KEYS_OF_SITES.iter().any(|key| keys.contains_key(*key)),
        // Something in it is wrong. What it is shall be told in the terms of what the file is meant to be.
        Err(_) => text.lines().any(|line| {
            let key = line.split_once(':').map(|(key, _)| key.trim_end());
            key.is_some_and(|key| KEYS_OF_SITES.contains(&key))
        }),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // `on` and `yes` are words that a component may well use.
        strict_booleans: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
    }
}

/// Reads the raw form of a spec file.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problems> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(alone(Rule::TooLarge { bytes: text.len() }, None));
    }
    let is_comment = |line: &str| line.trim_start().starts_with('#') || line.trim().is_empty();
    if text.lines().all(is_comment) {
        return Err(alone(Rule::Empty, None));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let error = error.without_snippet();
        let span = error.location().and_then(|location| Span::of(location, text));
        alone(rule(error), span)
    })
}

fn alone(rule: Rule, span: Option<Span>) -> Problems {
    Problems::new(vec![Problem::new(rule, span)])
}

fn rule(error: &Error) -> Rule {
    let wrong = |expected: &str| Rule::WrongShape { expected: expected.to_owned() };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => Rule::UnknownKey {
            key: field.clone(),
            nearest: nearest(field, expected.iter().copied()),
            known: expected.clone(),
        },
        Error::SerdeMissingField { field, .. } => Rule::MissingKey { key: field },
        Error::DuplicateMappingKey { key, .. } => {
            Rule::DuplicateKey { key: key.clone().unwrap_or_else(|| "this key".into()) }
        }
        Error::Unexpected { expected, .. } => wrong(match *expected {
            "mapping start" => "a mapping, as in `key: value`",
            "sequence start" => "a list, as in `[a, b]`",
            "string scalar" => "text",
            other => other,
        }),
        Error::InvalidScalar { ty, .. } if ty.starts_with(['i', 'u']) => wrong("a whole number"),
        Error::InvalidScalar { ty, .. } if ty.starts_with('f') => wrong("a number"),
        Error::NullIntoString { .. } => wrong("text, not nothing"),
        Error::NonFiniteFloat { .. } => wrong("a finite number"),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            wrong(expected)
        }
        other => Rule::NotYaml { message: without_place(&other.to_string()) },
    }
}

/// The parser's message without the place, which is reported on its own.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let first_line = message[..end].lines().next().unwrap_or_default();
    first_line.to_owned()
}
