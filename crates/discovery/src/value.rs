//! How an instance is written as an etcd value, strictly, and read back, liberally.
//!
//! Written: `10.0.0.5:7070` when there is nothing more to say, `https://10.0.0.5:7070` when the scheme is not the
//! default, else with what is not default as a query, always in this order:
//! `http://10.0.0.5:7070?weight=2&zone=a&version=1.4.0&health=/healthz&status=draining&tag=eu&meta.owner=ops`. A
//! degraded instance is written `degraded=<reason>` and without a `status`: readers of before this status skip what
//! they do not know, and go on sending it requests, which is what it means.
//!
//! A list of `service/` therefore reads like a list of addresses, and the plainest client in any language can use it.
//!
//! Read: all of that in any order, a path `/` and surrounding white space, `tags=a,b`, a URL without a port, and the
//! JSON of etcd's `clientv3/naming/endpoints`. Unknown parameters are skipped, so that a newer writer may say more.
//! What would be misunderstood when skipped (a base path, credentials, a deleted endpoint) is refused.

use std::{borrow::Cow, fmt, iter, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use crate::{Address, FieldError, Instance, Reason, Scheme, Status, Weight, field_error::quoted};

/// Stays readable in a query; everything else is percent-encoded (RFC 3986 section 3.4 without `& = + ;` and quotes).
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':').remove(b',');

/// Longer values are refused unread; the longest that is ever written has about 60 KiB.
const VALUE_MAX_BYTES: usize = 64 * 1024;

// === writing ===

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = parameters(self);
        if self.scheme == Scheme::default() && parameters.is_empty() {
            return self.address.fmt(f);
        }
        write!(f, "{}://{}", self.scheme, self.address)?;
        for (n, (name, value)) in parameters.iter().enumerate() {
            let separator = if n == 0 { '?' } else { '&' };
            write!(f, "{separator}{}={}", encode(name), encode(value))?;
        }
        Ok(())
    }
}

fn parameters(instance: &Instance) -> Vec<(Cow<'static, str>, Cow<'_, str>)> {
    let mut parameters: Vec<(Cow<'static, str>, Cow<'_, str>)> = Vec::new();
    if instance.weight != Weight::default() {
        parameters.push(("weight".into(), instance.weight.to_string().into()));
    }
    if let Some(zone) = &instance.zone {
        parameters.push(("zone".into(), zone.into()));
    }
    if let Some(version) = &instance.version {
        parameters.push(("version".into(), version.into()));
    }
    if let Some(health) = &instance.health {
        parameters.push(("health".into(), health.as_str().into()));
    }
    parameters.extend(condition(instance));
    parameters.extend(instance.tags.iter().map(|tag| ("tag".into(), tag.into())));
    parameters.extend(instance.meta.iter().map(|(key, value)| (format!("meta.{key}").into(), value.into())));
    parameters
}

/// The status and its reason.
fn condition(instance: &Instance) -> Vec<(Cow<'static, str>, Cow<'_, str>)> {
    let reason = instance.reason.as_deref();
    match instance.status {
        Status::Passing => Vec::new(),
        Status::Degraded => vec![("degraded".into(), reason.unwrap_or_default().into())],
        status @ (Status::Draining | Status::Critical) => {
            let reason = reason.map(|reason| ("reason".into(), reason.into()));
            iter::once(("status".into(), status.as_str().into())).chain(reason).collect()
        }
    }
}

// === reading ===

impl Instance {
    /// Reads a value in any form that finds its way into etcd: `host:port`, a URL with or without parameters and port,
    /// or the JSON of etcd's gRPC naming (`{"Op":0,"Addr":"10.0.0.5:7070","Metadata":…}`).
    ///
    /// Unknown parameters are skipped; a base path, credentials or a deleted endpoint would be misunderstood when
    /// skipped, and are refused.
    ///
    /// # Errors
    ///
    /// What is wrong with it, under the name of the parameter, or `value` when it is none of the forms. One value that
    /// cannot be read says nothing about the others: skip it, say so once, go on.
    pub fn parse(value: &[u8]) -> Result<Self, FieldError> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(FieldError::new("value", format!("has {} bytes; 65536 are allowed", value.len())));
        }
        let text = std::str::from_utf8(value).map_err(|_| FieldError::new("value", "is not UTF-8 text"))?.trim();
        let mut instance = if text.starts_with('{') { read_json(text)? } else { read_url(text)? };
        if instance.status == Status::Passing {
            instance.reason = None;
        }
        instance.check()?;
        Ok(instance)
    }
}

impl FromStr for Instance {
    type Err = FieldError;

    fn from_str(value: &str) -> Result<Self, FieldError> {
        Self::parse(value.as_bytes())
    }
}

/// `[scheme://]host[:port][/][?query]`; only a URL with a scheme may leave out the port.
fn read_url(text: &str) -> Result<Instance, FieldError> {
    let (scheme, rest) = match text.split_once("://") {
        // A `://` after a `?` belongs to a parameter.
        Some((scheme, rest)) if !scheme.contains('?') => (Some(scheme.parse::<Scheme>()?), rest),
        _ => (None, text),
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.strip_suffix('/').unwrap_or(place);
    if authority.contains(['/', '#', '@']) {
        let what = "is more than an address; paths, fragments and credentials are not supported";
        return Err(FieldError::new("value", format!("{} {what}", quoted(text))));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let address = match scheme {
        Some(scheme) if !has_port => format!("{authority}:{}", scheme.default_port()).parse::<Address>()?,
        _ => authority.parse()?,
    };
    let mut instance = Instance { scheme: scheme.unwrap_or_default(), ..Instance::at(address) };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut instance, &decode(name)?, decode(value)?)?;
    }
    Ok(instance)
}

/// etcd's own form, as Go writes it; its decoder does not mind the case of names.
#[derive(Deserialize)]
struct NamingEndpoint {
    #[serde(rename = "Op", alias = "op", default)]
    op: u8,
    #[serde(rename = "Addr", alias = "addr", default)]
    addr: String,
    #[serde(rename = "Metadata", alias = "metadata", default)]
    metadata: serde_json::Value,
}

fn read_json(text: &str) -> Result<Instance, FieldError> {
    let endpoint: NamingEndpoint = serde_json::from_str(text)
        .map_err(|error| FieldError::new("value", format!("is not the JSON of a gRPC naming endpoint: {error}")))?;
    if endpoint.op != 0 {
        return Err(FieldError::new("Op", format!("is {}; only 0, an added endpoint, has an address", endpoint.op)));
    }
    let mut instance = read_url(endpoint.addr.trim()).map_err(|error| match error.field.as_ref() {
        "value" | "address" => error.under("Addr"),
        _ => error,
    })?;
    let serde_json::Value::Object(metadata) = endpoint.metadata else {
        // Metadata is "any" in Go: text, numbers and lists mean something to their writer only.
        return Ok(instance);
    };
    for (name, value) in metadata {
        let value = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(truth) => truth.to_string(),
            _ => continue,
        };
        if name == "scheme" {
            instance.scheme = value.parse()?;
        } else {
            set(&mut instance, &name, value)?;
        }
    }
    Ok(instance)
}

fn set(instance: &mut Instance, name: &str, value: String) -> Result<(), FieldError> {
    // `zone=` says no more than no `zone` at all.
    let some = |value: String| Some(value).filter(|value| !value.is_empty());
    match name {
        "weight" => instance.weight = value.parse()?,
        "zone" => instance.zone = some(value),
        "version" => instance.version = some(value),
        "health" => instance.health = some(value).map(|path| path.parse()).transpose()?,
        "status" => instance.status = value.parse()?,
        "degraded" if instance.status == Status::Passing => {
            (instance.status, instance.reason) = (Status::Degraded, Reason::shorten(&value));
        }
        "reason" => instance.reason = Reason::shorten(&value),
        "tag" => instance.tags.extend(some(value)),
        "tags" => instance.tags.extend(value.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned)),
        name => {
            if let Some(key) = name.strip_prefix("meta.") {
                instance.meta.insert(key.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// `text` as it may stand in a query.
pub(crate) fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, QUERY)
}

/// Undoes `application/x-www-form-urlencoded`: that is how URL libraries write a query, with `+` for a space.
pub(crate) fn decode(text: &str) -> Result<String, FieldError> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(FieldError::new("value", format!("{} is not percent-encoded UTF-8", quoted(text)))),
    }
}

#[cfg(test)]
mod tests;
