//! Telling "there is no such host" from "the host does not answer".

use std::io;

/// What the standard library puts before the words of getaddrinfo(3). It gives the error no kind of its own.
const BEGINNING: &str = "failed to lookup address information: ";

/// The resolver's words, if `error` says that a host's name has no address, or none now: `Name or service not known`.
#[must_use]
pub fn unknown_name(error: &io::Error) -> Option<String> {
    error.to_string().strip_prefix(BEGINNING).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_told_from_a_port_that_refuses() {
        // A label is at most 63 bytes (RFC 1035): no name server needs to be asked.
        let name = format!("{}.invalid", "x".repeat(64));
        let error = tokio::net::TcpStream::connect((name.as_str(), 1)).await.unwrap_err();
        assert!(unknown_name(&error).is_some_and(|words| !words.is_empty()), "{error:?}");
        let error = tokio::net::TcpStream::connect("127.0.0.1:1").await.unwrap_err();
        assert_eq!(unknown_name(&error), None);
    }
}
