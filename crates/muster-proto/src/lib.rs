//! The registry over gRPC: `muster.proto`, what is generated from it for both sides, and its words in those of [`discovery`].
//!
//! | file | what is in it |
//! |---|---|
//! | `proto/muster.proto` | the contract, which is published as `doc/muster.proto` and served at `/v1/muster.proto` |
//! | [`v1`] | messages, server and client as generated |
//! | `instance`, `heartbeat` | between these messages and the values of [`discovery`], which hold the bounds |
//!
//! protobuf has no required fields and drops fields that it does not know. So an empty string or a 0 is an absent field, as in
//! the JSON of the HTTP API an absent one, and a misspelt field is noticed by the compiler of the caller.

mod heartbeat;
mod instance;

/// What is generated from `muster.proto`.
#[expect(missing_docs, clippy::doc_markdown, reason = "generated; the comments are those of muster.proto")]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

/// `muster.proto` as it is published.
pub const PROTO: &str = include_str!("../proto/muster.proto");

/// The same compiled, for server reflection: a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/muster.v1.bin"));

/// The `domain` of every `google.rpc.ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "muster";

/// The entry of an `ErrorInfo`'s metadata that has the status which the same error has over HTTP.
pub const HTTP_STATUS: &str = "http_status";
