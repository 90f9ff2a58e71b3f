//! What the server keeps of a message: its envelope, its text, and how it came.

/// A message as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The address in `MAIL FROM:<…>`.
    pub sender: String,
    /// The address of every `RCPT TO:<…>` that was accepted.
    pub recipients: Vec<String>,
    /// Headers and text, lines ended by CR LF, without the dots that transparency added.
    pub data: Vec<u8>,
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// The user who had logged in.
    pub login: Option<String>,
}

impl Received {
    /// Name and unfolded value of every header line, in order. A line that is no header keeps its text under an empty
    /// name.
    pub fn headers(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.data);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", "\t");
        let lines = unfolded.split("\r\n").filter(|line| !line.is_empty());
        lines
            .map(|line| match line.split_once(':') {
                Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
                None => (String::new(), line.to_owned()),
            })
            .collect()
    }

    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What follows the empty line after the headers, still encoded.
    pub fn body(&self) -> String {
        let text = String::from_utf8_lossy(&self.data);
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_unfolded_and_the_body_follows_them() {
        let data = b"To: a@b.c\r\nSubject: one\r\n two\r\n\r\nhello\r\n\r\nagain\r\n".to_vec();
        let received = Received { sender: String::new(), recipients: Vec::new(), data, encrypted: false, login: None };
        assert_eq!(received.header("subject").as_deref(), Some("one two"));
        assert_eq!((received.headers().len(), received.body().as_str()), (2, "hello\r\n\r\nagain\r\n"));
    }
}
