//! Keys as one line of text: a prefix that says which kind, hexadecimal digits, and check digits.

use crate::KeyError;
use alloc::format;
use alloc::string::String;
use zeroize::Zeroizing;

const CHECK_BYTES: usize = 4;

pub(crate) fn to_text<const N: usize>(prefix: &str, bytes: &[u8; N]) -> String {
    // As long as it gets: a text that grew would leave parts of a secret behind.
    let mut text = String::with_capacity(prefix.len() + 2 * (N + CHECK_BYTES));
    text.push_str(prefix);
    for byte in bytes.iter().chain(&check_bytes(bytes)) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

pub(crate) fn from_text<const N: usize>(
    prefix: &'static str,
    text: &str,
) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let digits = text.trim().strip_prefix(prefix).ok_or(KeyError::Prefix { expected: prefix })?.as_bytes();
    let expected = 2 * (N + CHECK_BYTES);
    if digits.len() != expected {
        return Err(KeyError::Digits { expected });
    }
    let nibble = |digit: u8| (digit as char).to_digit(16).ok_or(KeyError::Digits { expected });
    let byte = |pair: &[u8]| {
        Ok(u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).expect("two nibbles make a byte"))
    };
    let (mut key, mut check) = (Zeroizing::new([0; N]), [0; CHECK_BYTES]);
    for (into, pair) in key.iter_mut().chain(&mut check).zip(digits.chunks_exact(2)) {
        *into = byte(pair)?;
    }
    if check_bytes(&*key) != check {
        return Err(KeyError::Check);
    }
    Ok(key)
}

fn check_bytes(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = crate::hash("althing key check", bytes);
    [digest.0[0], digest.0[1], digest.0[2], digest.0[3]]
}
