//! What is pure in a message: bytes in, bytes out, no I/O and no table.
//!
//! | file | |
//! |---|---|
//! | `request` | a request as it leaves for an instance |
//! | `response` | a response as it leaves for the client |
//! | `headers` | which fields pass, and which ones are ours to write |
//! | `request_id` | request id and trace context |
//! | `repeatable` | what a request's head says about carrying it out twice |
//! | `forwarded`, `prefix` | what a request said of the path that its client asked for, and where the answer gets it back |
//! | `gateway_error`, `denial`, `problem_response`, `cors` | the gateway's own answers: the table from reason to status, the bytes, which pages may read them |

pub(crate) mod cors;
pub(crate) mod denial;
pub(crate) mod forwarded;
pub(crate) mod gateway_error;
pub(crate) mod headers;
pub(crate) mod prefix;
pub(crate) mod problem_response;
pub(crate) mod repeatable;
pub(crate) mod request;
pub(crate) mod request_id;
pub(crate) mod response;
#[cfg(test)]
mod tests;
