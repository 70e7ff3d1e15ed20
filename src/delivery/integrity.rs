//! Integrity strings as HTML writes them: `sha256-` and the hash in base64.

use crate::error::{Error, Result};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Base64 digits of 32 bytes, without padding.
const DIGITS: usize = 43;

/// The SHA-256 that an integrity string asks for, in lower-case hex. Errors: input-invalid.
pub fn sha256_of(integrity: &str) -> Result<String> {
    let digits = integrity.trim().strip_prefix("sha256-").map(|rest| rest.trim_end_matches('='));
    digits
        .filter(|digits| digits.len() == DIGITS)
        .and_then(decode)
        .ok_or_else(|| Error::input("integrity", "sha256- and 44 characters of base64 are expected"))
}

/// 43 digits carry 258 bits: 64 hex digits and two bits of zeros.
fn decode(digits: &str) -> Option<String> {
    let (mut hex, mut bits, mut held) = (String::with_capacity(64), 0u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        bits = bits << 6 | value as u32;
        held += 6;
        while held >= 4 {
            held -= 4;
            hex.push(char::from_digit(bits >> held & 15, 16)?);
        }
        bits &= (1 << held) - 1;
    }
    (bits == 0).then_some(hex)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The string of a hash in hex.
    pub fn written(hex: &str) -> String {
        let bits: String = hex.chars().map(|digit| format!("{:04b}", digit.to_digit(16).unwrap())).collect();
        let padded = format!("{bits}00");
        let digits = (0..DIGITS).map(|place| usize::from_str_radix(&padded[place * 6..place * 6 + 6], 2).unwrap());
        format!("sha256-{}=", digits.map(|digit| char::from(ALPHABET[digit])).collect::<String>())
    }

    #[test]
    fn the_hash_of_nothing_reads_as_everywhere() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let integrity = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(sha256_of(integrity).unwrap(), expected);
        assert_eq!(written(expected), integrity);
    }

    #[test]
    fn what_is_no_such_string_is_refused() {
        let whole = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        for integrity in [
            "",
            "sha256-",
            whole,
            &format!("sha384-{whole}"),
            &format!("sha256-x{whole}"),
            "sha256-47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
        ] {
            assert_eq!(sha256_of(integrity).unwrap_err().code(), "input-invalid", "{integrity}");
        }
    }
}
