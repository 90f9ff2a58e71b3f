//! The client's side of a request: how long it is waited for, and what it still sends.
//!
//! | file | |
//! |---|---|
//! | `deadlines` | what a connection is doing and waiting for, and until when |
//! | `request_body` | the rest of a request's body, on its way from the client |
//! | `unread_body` | the body of a request that is not forwarded |
//! | `pace` | how fast the client takes the response |
//! | `departure` | whether the client is still there while it waits |

pub(crate) mod deadlines;
pub(crate) mod departure;
pub(crate) mod pace;
pub(crate) mod request_body;
pub(crate) mod unread_body;
