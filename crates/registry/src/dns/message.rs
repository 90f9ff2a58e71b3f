//! Bytes in, bytes out: which questions are answered at all, and how much of an answer fits.
//!
//! | what comes | answer |
//! |---|---|
//! | less than a header, or an answer | none: to answer an answer starts a loop |
//! | what cannot be read, or not exactly one question | `FORMERR` |
//! | another operation than a query | `NOTIMP` |
//! | EDNS of another version than 0 | `BADVERS` |
//! | another class, another domain, a zone transfer | `REFUSED` |

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};

use super::{
    answer::{InstanceSource, Lookup, find},
    zone::Zone,
};

/// The most that is sent in one datagram, whatever the client offers: what passes every link unfragmented (DNS flag day
/// 2020). In bytes.
pub const UDP_MAX_BYTES: u16 = 1232;

/// Without EDNS (RFC 1035 section 4.2.1). In bytes.
const UDP_PLAIN_MAX_BYTES: u16 = 512;

/// Bytes of a header, and of the smallest record that we ever send: an `A` record with a compressed name.
const HEADER_BYTES: usize = 12;
const RECORD_MIN_BYTES: usize = 16;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer must fit into one.
    Udp,
    /// Over a stream, with its length in front.
    Tcp,
}

/// The answer to `request`, and its code; `None` when it deserves none.
pub(super) fn answer(
    zone: &Zone,
    view: &impl InstanceSource,
    request: &[u8],
    transport: Transport,
) -> Option<(Vec<u8>, ResponseCode)> {
    const IS_RESPONSE: u8 = 0x80;
    if request.len() < HEADER_BYTES || request[2] & IS_RESPONSE != 0 {
        return None;
    }
    let id = u16::from_be_bytes([request[0], request[1]]);
    let (message, max_bytes) = match Message::from_vec(request) {
        Ok(request) => (respond(zone, view, &request, transport), max_bytes(&request, transport)),
        Err(_) => {
            let op_code = OpCode::from_u8((request[2] >> 3) & 0x0f);
            (Message::error_msg(id, op_code, ResponseCode::FormErr), UDP_PLAIN_MAX_BYTES)
        }
    };
    let code = message.metadata.response_code;
    Some((fit(message, max_bytes.into(), transport)?, code))
}

/// "Ask again over TCP", for a question that is not answered here: never longer than the question.
pub(super) fn truncated(request: &[u8]) -> Option<Vec<u8>> {
    let request =
        Message::from_vec(request).ok().filter(|message| message.metadata.message_type == MessageType::Query)?;
    let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.truncation = true;
    response.add_queries(request.queries.into_iter().take(1));
    response.to_vec().ok()
}

/// How long the answer may be, in bytes.
fn max_bytes(request: &Message, transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => request.max_payload().min(UDP_MAX_BYTES),
    }
}

fn respond(zone: &Zone, view: &impl InstanceSource, request: &Message, transport: Transport) -> Message {
    let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.add_queries(request.queries.iter().take(1).cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX_BYTES).set_version(0);
        response.set_edns(edns);
    }
    response.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice()) {
        (OpCode::Query, _) if request.version() > 0 => ResponseCode::BADVERS,
        (OpCode::Query, [query]) => {
            let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
            let found = match query.query_class() {
                DNSClass::IN if !transfer => {
                    let most = usize::from(max_bytes(request, transport)) / RECORD_MIN_BYTES;
                    find(zone, view, query.name(), query.query_type(), most)
                }
                _ => Lookup::Refused,
            };
            fill(&mut response, zone, view, found, transport)
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    response
}

fn fill(
    response: &mut Message,
    zone: &Zone,
    view: &impl InstanceSource,
    found: Lookup,
    transport: Transport,
) -> ResponseCode {
    // RFC 2308: the SOA record tells how long "no" may be believed.
    let code = match found {
        Lookup::Refused => return ResponseCode::Refused,
        Lookup::Unknown => return ResponseCode::ServFail,
        Lookup::Records { answers, additionals, more } => {
            response.add_answers(answers);
            response.add_additionals(additionals);
            response.metadata.truncation = more && transport == Transport::Udp;
            ResponseCode::NoError
        }
        Lookup::NoData => {
            response.add_authority(zone.soa(view.revision().0));
            ResponseCode::NoError
        }
        Lookup::NoName => {
            response.add_authority(zone.soa(view.revision().0));
            ResponseCode::NXDomain
        }
    };
    response.metadata.authoritative = true;
    code
}

/// Leaves out what does not fit: additional records silently (RFC 2181 section 9), answers with `TC` over UDP, so that
/// the client asks again over TCP.
fn fit(mut message: Message, max_bytes: usize, transport: Transport) -> Option<Vec<u8>> {
    loop {
        // Beyond 64 KiB a message cannot even be written.
        let bytes = message.to_vec().ok().filter(|bytes| bytes.len() <= max_bytes);
        if bytes.is_some() {
            return bytes;
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
            continue;
        }
        if message.answers.is_empty() {
            return None;
        }
        // A tenth each time: a few rounds, and little room is lost.
        let rest = message.answers.len() * 9 / 10;
        message.answers.truncate(rest);
        message.metadata.truncation = transport == Transport::Udp;
    }
}

#[cfg(test)]
mod tests;
