//! Long bodies, made while they are read.
//!
//! A list of a service of hundreds of instances may have megabytes, and hundreds of clients may wait for it at once, some of which never
//! read it. So no client gets a body of its own: each instance is rendered once ([`crate::mirror::Rendered`]), and a body is put
//! together from these renderings, [`CHUNK_BYTES`] at a time, as fast as its client takes it. What a client that does not read
//! costs is one such chunk, and what [`service_kit::serve`] lets wait behind it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use serde::Serialize;

use super::listing::InstanceEntry;
use crate::mirror::Entry;

/// How much of a body is put together at a time, in bytes.
const CHUNK_BYTES: usize = 16 * 1024;

/// Joins pieces into chunks of [`CHUNK_BYTES`] and at most one piece more.
pub(super) struct Chunks<I>(I);

/// A JSON object with a list as its last field: all that is before it, and its elements.
pub(super) struct ListBody<I> {
    head: Vec<u8>,
    elements: I,
    tail: Vec<u8>,
}

/// The instance as lists and event streams show it, rendered once.
pub(super) fn json(entry: &Entry) -> Bytes {
    entry.json.get(|| to_json(&InstanceEntry::from(entry))).clone()
}

/// As JSON.
pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of strings and numbers always become JSON")
}

/// `elements` with commas in between.
pub(super) fn separated(elements: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    elements.enumerate().flat_map(|(place, element)| {
        let comma = (place > 0).then(|| Bytes::from_static(b","));
        comma.into_iter().chain([element])
    })
}

/// What JSON has of `entries`, as elements of a list.
pub(super) fn listed(entries: Vec<Arc<Entry>>) -> impl Iterator<Item = Bytes> {
    separated(entries.into_iter().map(|entry| json(&entry)))
}

// === impl Chunks ===

impl<I: Iterator<Item = Bytes>> Chunks<I> {
    /// Of these pieces.
    pub(super) fn of(pieces: impl IntoIterator<IntoIter = I>) -> Self {
        Self(pieces.into_iter())
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Chunks<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let first = self.0.next()?;
        if first.len() >= CHUNK_BYTES {
            return Some(first);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        chunk.extend_from_slice(&first);
        while chunk.len() < CHUNK_BYTES
            && let Some(piece) = self.0.next()
        {
            chunk.extend_from_slice(&piece);
        }
        Some(chunk.freeze())
    }
}

// === impl ListBody ===

impl<I: Iterator<Item = Bytes> + Send + 'static> ListBody<I> {
    /// `head` and `[`, the elements with commas in between, `]` and `tail`.
    pub(super) fn new(mut head: Vec<u8>, elements: I, tail: &[u8]) -> Self {
        head.push(b'[');
        Self { head, elements, tail: [b"]", tail].concat() }
    }

    /// The answer with these header fields.
    pub(super) fn answer(self, mut headers: HeaderMap) -> Response {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let pieces = [self.head.into()].into_iter().chain(self.elements).chain([self.tail.into()]);
        let chunks = Chunks::of(pieces).map(Ok::<_, Infallible>);
        (headers, Body::from_stream(stream::iter(chunks))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_and_large_ones_pass_as_they_are() {
        let small = Bytes::from(vec![b'a'; 100]);
        let large = Bytes::from(vec![b'b'; 50_000]);
        let pieces = [vec![small.clone(); 200], vec![large.clone()], vec![small; 3]].concat();
        let whole = pieces.concat();
        let chunks: Vec<Bytes> = Chunks::of(pieces).collect();
        assert_eq!(chunks.concat(), whole);
        assert!(chunks.iter().all(|chunk| chunk.len() < CHUNK_BYTES + large.len()) && chunks.len() < 5);
        assert_eq!(separated(["1", "2", "3"].map(Bytes::from).into_iter()).collect::<Vec<_>>().concat(), b"1,2,3");
    }
}
