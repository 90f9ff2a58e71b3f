//! Proof of address: how the process at an address shows that it is the instance that was announced there.
//!
//! A registry that asks for it calls the announced address before it lists it, with a nonce that no other program could
//! have guessed, and is told which instance listens there:
//!
//! ```text
//! GET /.well-known/muster?nonce=5b1c…  →  200  5b1c… service/mail/10.0.0.5:7070
//! ```
//!
//! As in ACME's http-01 challenge (RFC 8555 section 8.3), the answer is made of what was asked and of who is asked. The
//! registry does not say whom it expects, so a program that echoes what it is sent proves nothing; neither does one
//! that serves the same page to every client. That the sender may announce that service is for its token to prove.

use crate::InstanceKey;

/// The path that is asked (RFC 8615).
pub const PATH: &str = "/.well-known/muster";

/// The parameter with the nonce.
pub const NONCE: &str = "nonce";

/// Whether `nonce` is one that is answered: 16 to 64 hexadecimal digits, so that an answer is never an HTML page.
#[must_use]
pub fn is_nonce(nonce: &str) -> bool {
    (16..=64).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the instance `key` answers to `nonce`.
#[must_use]
pub fn answer(nonce: &str, key: &InstanceKey) -> String {
    format!("{nonce} {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_question_and_the_instance() {
        let key: InstanceKey = "service/mail/10.0.0.5:7070".parse().unwrap();
        assert_eq!(answer("0011223344556677", &key), "0011223344556677 service/mail/10.0.0.5:7070");
    }

    #[test]
    fn only_a_nonce_is_answered() {
        assert!(is_nonce(&"0a".repeat(8)) && is_nonce(&"0A".repeat(32)));
        for bad in ["", "0a0a0a0a0a0a0a0", &"0".repeat(65), "<script>alert(1)</script>", "0123456789abcdeg"] {
            assert!(!is_nonce(bad), "{bad}");
        }
    }
}
