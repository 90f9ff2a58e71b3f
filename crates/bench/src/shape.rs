//! The kinds of requests that are measured.

use crate::engine::Connections;

/// A kind of request.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// As the table calls it.
    pub name: &'static str,
    /// Bytes of the request's body; 0 is a GET.
    pub request_bytes: usize,
    /// Bytes of the response's body.
    pub response_bytes: usize,
    /// What it is sent on.
    pub connections: Connections,
}

/// The rows of processor time.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "small GET", request_bytes: 0, response_bytes: 12, connections: Connections::Kept },
    Shape { name: "POST 1 KiB", request_bytes: 1024, response_bytes: 12, connections: Connections::Kept },
    Shape { name: "response 10 KiB", request_bytes: 0, response_bytes: 10 * 1024, connections: Connections::Kept },
    Shape { name: "no keep-alive", request_bytes: 0, response_bytes: 12, connections: Connections::Fresh },
];

// === impl Shape ===

impl Shape {
    /// The request as bytes.
    #[must_use]
    pub fn request(self) -> Vec<u8> {
        self.request_to("bench", "")
    }

    /// The same to another service, with more `fields`, each with its end of line.
    #[must_use]
    pub fn request_to(self, service: &str, fields: &str) -> Vec<u8> {
        let method = if self.request_bytes == 0 { "GET" } else { "POST" };
        let mut head =
            format!("{method} /{service}/ HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n");
        if self.request_bytes > 0 {
            head += &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", self.request_bytes);
        }
        if self.connections == Connections::Fresh {
            head += "Connection: close\r\n";
        }
        head += fields;
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + self.request_bytes, b'x');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_its_shape_says() {
        let post = String::from_utf8(SHAPES[1].request()).unwrap();
        assert!(post.starts_with("POST /bench/ HTTP/1.1\r\n") && post.contains("Content-Length: 1024\r\n"));
        assert!(post.ends_with(&format!("\r\n\r\n{}", "x".repeat(1024))));
        let last = String::from_utf8(SHAPES[3].request()).unwrap();
        assert!(last.contains("Connection: close\r\n") && last.ends_with("\r\n\r\n"));
    }
}
