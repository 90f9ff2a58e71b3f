//! The client's side of a request: what it sends, what it gets, and how long it is waited for.
//!
//! | file | |
//! |---|---|
//! | `exchange` | **a request in and its response out, whatever the framing** |
//! | `http1` | the framing of HTTP/1.1 |
//! | `deadlines` | what a connection is doing and waiting for, and until when |
//! | `request_body` | the rest of a request's body, on its way from the client |
//! | `unread_body` | the body of a request that is not forwarded |
//! | `pace` | how fast the client takes the response |

pub(crate) mod deadlines;
pub(crate) mod exchange;
pub(crate) mod http1;
pub(crate) mod pace;
pub(crate) mod request_body;
pub(crate) mod unread_body;
