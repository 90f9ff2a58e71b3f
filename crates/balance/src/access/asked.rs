//! What a request shows of its client: where it is, and its credentials.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};

use http1::{Fields, Name, Request};
use ipnet::IpNet;
use service_kit::{connections::ClientNetwork, networks};

use crate::{access::keys::KeyRing, message::headers::Client};

/// A request, as far as it matters for who may pass.
pub(crate) struct Asked<'a> {
    fields: &'a Fields<'a>,
    /// What the instance is asked for, without the query; as it came.
    pub(crate) path: &'a str,
    client: &'a Client,
    /// Where proxies are that may speak for others.
    trusted: &'a [IpNet],
    pub(crate) keys: &'a KeyRing,
    /// The time of day.
    pub(crate) now: SystemTime,
}

/// What is in `Authorization`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authorization<'a> {
    Absent,
    Bearer(&'a [u8]),
    Basic(&'a [u8]),
    /// A scheme that is none of ours.
    Other,
    /// The field is there more than once.
    Several,
}

// === impl Asked ===

impl<'a> Asked<'a> {
    /// `rest` is what the instance is asked for; proxies in the networks `trusted` may speak for others.
    pub(crate) fn new(
        request: &'a Request<'a>,
        rest: &'a str,
        client: &'a Client,
        trusted: &'a [IpNet],
        keys: &'a KeyRing,
        now: SystemTime,
    ) -> Self {
        let path = rest.split('?').next().unwrap_or_default();
        Self { fields: &request.fields, path: if path.is_empty() { "/" } else { path }, client, trusted, keys, now }
    }

    /// Where the client is: who is connected, or whom a trusted proxy has named last that is no trusted proxy itself.
    /// Where all are, it is the one that is farthest away.
    pub(crate) fn client_address(&self) -> Option<IpAddr> {
        let own = || std::str::from_utf8(self.client.address()).ok()?.parse().ok();
        if !self.client.is_trusted() || !self.fields.has(Name::XForwardedFor) {
            return own();
        }
        let lines: Vec<&[u8]> = self.values("x-forwarded-for").collect();
        let mut farthest = None;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            // What a trusted proxy says and cannot be read is no address at all.
            let address: IpAddr = std::str::from_utf8(hop.trim_ascii()).ok()?.parse().ok()?;
            farthest = Some(address.to_canonical());
            if !networks::contain(self.trusted, address) {
                break;
            }
        }
        farthest
    }

    /// What the client counts as, for what is bounded for each.
    pub(crate) fn client_network(&self) -> ClientNetwork {
        // Clients that cannot be distinguished are one.
        ClientNetwork::of(self.client_address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    /// The values of a field, whatever its case.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value)
    }

    pub(crate) fn authorization(&self) -> Authorization<'a> {
        let mut values = self.values("authorization");
        let Some(value) = values.next() else { return Authorization::Absent };
        if values.next().is_some() {
            return Authorization::Several;
        }
        let scheme_end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(scheme_end);
        match scheme {
            scheme if scheme.eq_ignore_ascii_case(b"bearer") => Authorization::Bearer(rest.trim_ascii()),
            scheme if scheme.eq_ignore_ascii_case(b"basic") => Authorization::Basic(rest.trim_ascii()),
            _ => Authorization::Other,
        }
    }
}

impl fmt::Debug for Asked<'_> {
    /// Without the fields, which have credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("path", &self.path).field("client", &self.client).finish_non_exhaustive()
    }
}

// === impl Authorization ===

impl fmt::Debug for Authorization<'_> {
    /// The scheme alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Bearer(_) => "Bearer",
            Self::Basic(_) => "Basic",
            Self::Other => "Other",
            Self::Several => "Several",
        })
    }
}
