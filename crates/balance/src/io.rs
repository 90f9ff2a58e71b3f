//! Bytes and sockets: a stream with a buffer in front of it, where the buffers come from, and how a socket ends.
//!
//! | file | |
//! |---|---|
//! | `buffered_stream` | a stream that is read into a buffer and written from one |
//! | `body_reader` | a body that is read out of its framing where it has arrived |
//! | `buffers` | the buffers of one core, lent and taken back |
//! | `stream` | what is asked of a socket |
//! | `linger` | the end of a connection whose last answer the client may not have read yet |

pub(crate) mod body_reader;
pub(crate) mod buffered_stream;
pub(crate) mod buffers;
pub(crate) mod linger;
pub(crate) mod stream;
