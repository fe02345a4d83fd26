use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use thiserror::Error;

/// The most bytes one event may have in its canonical form.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortType {
    /// A JSON number.
    Number,
    /// A JSON number without fraction or exponent, from −2⁶³ to 2⁶⁴ − 1.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// Any JSON value.
    Json,
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Longer than allowed; [`MAX_EVENT_BYTES`] for an event.
    #[error("{actual} bytes where at most {limit} are allowed")]
    TooLong {
        /// Bytes received.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Neither JSON nor, on a string port, UTF-8 text.
    #[error("not a JSON value: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// A whole number that no 64-bit integer holds; rounding it silently would falsify it.
    #[error("the whole number {digits} does not fit 64 bits; send it as a string")]
    InexactNumber {
        /// The number as it was written.
        digits: String,
    },
    /// A value of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The type of the port.
        expected: PortType,
        /// The kind of the value.
        found: &'static str,
    },
}

impl PortType {
    /// All types, in the order in which they are documented.
    pub const ALL: [Self; 5] = [Self::Number, Self::Integer, Self::Boolean, Self::String, Self::Json];

    /// The name in a spec file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Json => "json",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Whether whatever this type admits is admitted by `other` too.
    #[must_use]
    pub fn fits(self, other: Self) -> bool {
        self == other || other == Self::Json || (self, other) == (Self::Integer, Self::Number)
    }

    /// Checks that a port of this type carries `value`.
    ///
    /// # Errors
    /// [`ValueError::WrongType`] otherwise.
    pub fn check(self, value: &Value) -> Result<(), ValueError> {
        let admitted = match self {
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::String => value.is_string(),
            Self::Json => true,
        };
        if admitted {
            return Ok(());
        }
        Err(ValueError::WrongType { expected: self, found: kind(value) })
    }

    /// The value that a payload from outside (an MQTT message) stands for: a string port takes the
    /// payload as text, any other port as JSON.
    ///
    /// # Errors
    /// When the payload is too long, or no value of this type.
    pub fn read_payload(self, payload: &[u8]) -> Result<Value, ValueError> {
        if self != Self::String {
            let value = parse(payload)?;
            self.check(&value)?;
            return Ok(value);
        }
        if payload.len() > MAX_EVENT_BYTES {
            return Err(ValueError::TooLong { actual: payload.len(), limit: MAX_EVENT_BYTES });
        }
        let text = std::str::from_utf8(payload)
            .map_err(|e| ValueError::NotJson { reason: format!("not UTF-8 text: {e}") })?;
        let value = Value::String(text.to_owned());
        let actual = canonical(&value).len();
        if actual > MAX_EVENT_BYTES {
            return Err(ValueError::TooLong { actual, limit: MAX_EVENT_BYTES });
        }
        Ok(value)
    }

    /// The payload that stands for `value` outside: the inverse of [`Self::read_payload`].
    #[must_use]
    pub fn write_payload(self, value: &Value) -> Vec<u8> {
        match (self, value) {
            (Self::String, Value::String(text)) => text.clone().into_bytes(),
            _ => canonical(value),
        }
    }
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of JSON value this is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The canonical bytes of a value: JSON without spaces, keys of objects sorted, every number in its
/// shortest form that reads back as the same number. Equal values give equal bytes everywhere.
///
/// The order of keys and the form of numbers are fixed here and not left to `serde_json`, whose
/// features `preserve_order` and `arbitrary_precision` any crate of a program can switch on.
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_canonical(value, &mut bytes);
    bytes
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => write_leaf(value, out),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => write_leaf(&n, out),
            (_, Some(n), _) => write_leaf(&n, out),
            (_, _, Some(n)) => write_leaf(&n, out),
            _ => write_leaf(number, out),
        },
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_leaf(key, out);
                out.push(b':');
                write_canonical(item, out);
            }
            out.push(b'}');
        }
    }
}

fn write_leaf<T: Serialize + ?Sized>(leaf: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, leaf).expect("scalars have a JSON form and memory takes it");
}

/// Reads one JSON value from bytes that may come from anywhere.
///
/// # Errors
/// When it is too long for an event, no JSON, or holds a whole number that would have to be rounded.
pub fn parse(bytes: &[u8]) -> Result<Value, ValueError> {
    let value = parse_up_to(bytes, MAX_EVENT_BYTES)?;
    let actual = canonical(&value).len();
    if actual > MAX_EVENT_BYTES {
        return Err(ValueError::TooLong { actual, limit: MAX_EVENT_BYTES });
    }
    Ok(value)
}

/// As [`parse`], for JSON that is no event and can have up to `limit` bytes.
pub(crate) fn parse_up_to(bytes: &[u8], limit: usize) -> Result<Value, ValueError> {
    if bytes.len() > limit {
        return Err(ValueError::TooLong { actual: bytes.len(), limit });
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|e| ValueError::NotJson { reason: e.to_string() })?;
    check_whole_numbers(bytes)?;
    Ok(value)
}

/// Finds whole numbers that the parser has rounded, in bytes known to be JSON.
fn check_whole_numbers(json: &[u8]) -> Result<(), ValueError> {
    let mut rest = json;
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b'"' => rest = after_string(tail),
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let length = rest.iter().take_while(|b| is_part(b)).count();
                let (number, after) = rest.split_at(length);
                check_whole_number(number)?;
                rest = after;
            }
            _ => rest = tail,
        }
    }
    Ok(())
}

fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [b'\\', _, tail @ ..] => rest = tail,
            [b'"', tail @ ..] => return tail,
            [_, tail @ ..] => rest = tail,
            [] => return rest,
        }
    }
}

fn check_whole_number(number: &[u8]) -> Result<(), ValueError> {
    let digits = String::from_utf8_lossy(number);
    let is_whole = !digits.contains(['.', 'e', 'E']);
    if is_whole && digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err() {
        return Err(ValueError::InexactNumber { digits: digits.chars().take(40).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_spaces_gone() {
        let value = parse(br#" { "b": [1, 2.50], "a": null } "#).unwrap();
        assert_eq!(canonical(&value), br#"{"a":null,"b":[1,2.5]}"#);
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        let refused = parse(b"[\"18446744073709551616\", 18446744073709551616]");
        assert_eq!(refused, Err(ValueError::InexactNumber { digits: "18446744073709551616".into() }));
        assert!(parse(b"[18446744073709551615, -9223372036854775808, -0, 1e30]").is_ok());
        assert!(parse(b"1e400").is_err());
        assert!(parse(br#"{"a\"1": "\\", "99999999999999999999999": 1}"#).is_ok());
    }

    #[test]
    fn types_admit_their_values_only() {
        let values = [json!(1.5), json!(1), json!(true), json!("x"), json!(null)];
        let admitted = PortType::ALL.map(|t| values.each_ref().map(|v| t.check(v).is_ok()));
        assert_eq!(
            admitted,
            [
                [true, true, false, false, false],
                [false, true, false, false, false],
                [false, false, true, false, false],
                [false, false, false, true, false],
                [true; 5],
            ]
        );
    }

    #[test]
    fn a_string_port_speaks_plain_text_outside() {
        let value = PortType::String.read_payload("zu heiß".as_bytes()).unwrap();
        assert_eq!(value, json!("zu heiß"));
        assert_eq!(PortType::String.write_payload(&value), "zu heiß".as_bytes());
        assert!(PortType::String.read_payload(&[0xff]).is_err());
        assert!(PortType::Number.read_payload(b"\"21\"").is_err());
        // Control characters grow sixfold when they are escaped.
        assert!(PortType::String.read_payload(&[1; MAX_EVENT_BYTES / 2]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_parsed_keeps_its_canonical_bytes(number in any::<f64>(), whole in any::<i64>(), text in ".{0,20}") {
            prop_assume!(number.is_finite());
            let bytes = canonical(&json!({ "z": number, "a": [whole, text] }));
            prop_assert_eq!(canonical(&parse(&bytes).unwrap()), bytes);
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
