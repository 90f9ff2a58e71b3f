//! HTTP/1.1 (RFC 9112) as plain functions over bytes: what a gateway reads, decides and writes, without I/O.
//!
//! Request smuggling lives from two parsers that disagree where a message ends (RFC 9112, section 11.2). So there is
//! one parser and one decision here, and it is strict: a message that two parsers could read differently is a
//! [`Refusal`], never a guess. What passes is written anew with [`mod@write`], and nothing of the peer's framing is
//! copied.
//!
//! The way of a message:
//!
//! | step | with |
//! |---|---|
//! | bytes arrive, and each is read once, until the head is complete or unacceptable | [`Scan::read`] |
//! | the head is judged, its framing decided | [`Head::request`], [`Head::response`] |
//! | its fields pass, as many at once as stand together | [`Fields::write`], [`Response::write`] |
//! | the body is taken out of its framing | [`BodyDecoder`] |
//! | a head and a body are written | [`mod@write`] |
//!
//! ```
//! use http1::{BodyDecoder, Framing, Limits, Method, Name, One, Scan};
//!
//! let bytes = b"POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET ";
//! let (mut scan, limits) = (Scan::default(), Limits::default());
//! let end = scan.read(bytes, &limits).expect("the head is complete");
//!
//! let request = scan.head(bytes).expect("it was read").request(&limits)?;
//! assert_eq!(request.method, Method::Post);
//! assert_eq!(request.fields.get(Name::Host), One::One(b"a"));
//! assert_eq!(request.framing, Framing::Chunked);
//!
//! let mut body = BodyDecoder::new(request.framing);
//! let piece = body.decode(&bytes[end..])?;
//! assert_eq!(&bytes[end..][piece.data], b"hello");
//! assert!(body.is_at_end());
//! assert_eq!(&bytes[end + piece.consumed..], b"GET ");
//! # Ok::<(), http1::Refusal>(())
//! ```
//!
//! A head that is there as a whole, in a test or a tool, is one call: [`parse_request`], [`parse_response`].
//!
//! Nothing allocates once a [`Scan`] has seen as many fields as its connection sends, nothing panics on any input,
//! and everything that is returned borrows from the bytes that came in.

mod body;
mod bytes;
mod chunked;
mod connection;
mod fields;
mod framing;
mod host;
mod limits;
mod line;
mod method;
mod name;
mod names;
mod piece;
mod refusal;
mod request;
mod response;
mod scan;
mod target;
mod version;
pub mod write;

pub use body::BodyDecoder;
pub use fields::{Field, Fields, Iter, One};
pub use framing::Framing;
pub use limits::Limits;
pub use line::Line;
pub use method::Method;
pub use name::Name;
pub use names::Names;
pub use piece::Piece;
pub use refusal::Refusal;
pub use request::{Request, parse_request};
pub use response::{Response, parse_response};
pub use scan::{Head, Scan};
pub use target::Target;
pub use version::Version;
