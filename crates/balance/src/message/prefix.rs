//! The prefix that was cut off a path, put back where an instance's answer refers to a path of its own.
//!
//! `/web/sub` is asked of an instance of `web` as `/sub`, and so it redirects to `/sub/`, which is no path of the gateway's.
//! `Location`, `Content-Location` and `Refresh` get the prefix when they begin with `/`, or name the instance itself or the
//! host that the client asked; `Set-Cookie` gets it in its `Path`. What is relative already leads where it should, and
//! what names another host stays. Of a URL that names the instance only the path is left: its address is nothing to a
//! client.
//!
//! A path that begins with the prefix has it already ([`Restore::Auto`]); an instance that announces
//! `meta.forwarded-prefix=honoured` is left alone, because it has read `X-Forwarded-Prefix`. A cookie whose name begins with
//! `__Host-` must have the path `/` (RFC 6265bis, section 4.1.3.2) and keeps it. Bodies and `Link` are not looked at.
//!
//! Only a response with one of these fields costs anything. What the request said is then read from the head that was
//! sent to the instance.

use discovery::{Instance, policy::Restore};
use http1::{Field, Fields, Name, Names, write};

use crate::message::{forwarded::Forwarded, request::UpstreamRequest};

/// The fields of a response that may refer to a path.
const CONCERNED: Names = Names::of(&[Name::Location, Name::ContentLocation, Name::Refresh, Name::SetCookie]);

/// The prefix, for the fields of one response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix<'a> {
    /// What is answered.
    pub(crate) request: &'a UpstreamRequest,
    /// Which instance answers.
    pub(crate) instance: &'a Instance,
    /// The last part of the prefix, the service's.
    pub(crate) own: &'a [u8],
    /// Whether the service's policy wants it put back.
    pub(crate) restore: Restore,
}

// === impl Prefix ===

impl<'a> Prefix<'a> {
    /// Whether one of these fields refers to a path.
    pub(crate) fn concerns(fields: &Fields<'_>) -> bool {
        fields.has_any(CONCERNED)
    }

    /// Writes a field of the response, with the prefix where it belongs.
    pub(crate) fn write(&self, out: &mut Vec<u8>, field: &Field<'_>) {
        match CONCERNED.contains(field.id).then(|| self.restored(field)).flatten() {
            Some(value) => write::field(out, field.name, &value),
            None => write::field(out, field.name, field.value),
        }
    }

    /// Everything that was cut off the path.
    pub(crate) fn full(&self) -> &'a [u8] {
        self.request.forwarded().prefix
    }

    fn restored(&self, field: &Field<'_>) -> Option<Vec<u8>> {
        let is_wanted = match self.restore {
            Restore::Auto => !self.instance.honours_forwarded_prefix(),
            Restore::Always => true,
            Restore::Never => false,
        };
        if !is_wanted {
            return None;
        }
        let address = self.instance.address.to_string();
        let site = Site {
            forwarded: self.request.forwarded(),
            instance: address.as_bytes(),
            own: self.own,
            is_always: self.restore == Restore::Always,
        };
        match field.id {
            Name::Refresh => site.refresh(field.value),
            Name::SetCookie => site.set_cookie(field.value),
            _ => site.reference(field.value),
        }
    }
}

/// Where an instance is by its own knowledge, and where it is for clients.
struct Site<'a> {
    forwarded: Forwarded<'a>,
    /// The instance's own address.
    instance: &'a [u8],
    /// The last part of the prefix, the service's.
    own: &'a [u8],
    /// Whether also paths get the prefix that begin with it.
    is_always: bool,
}

impl Site<'_> {
    /// A URI reference (RFC 3986, section 4.1); `None` when it stays as it is.
    fn reference(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (origin, path) = self.split(value)?;
        let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
        let restored = [origin, self.missing(path), slash, path].concat();
        (restored != value).then_some(restored)
    }

    /// Splits a reference that leads to the instance into the origin that stays in front, and the rest.
    fn split<'v>(&self, value: &'v [u8]) -> Option<(&'v [u8], &'v [u8])> {
        let scheme = [&b"http:"[..], b"https:"]
            .into_iter()
            .find(|scheme| value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let behind = &value[scheme.map_or(0, <[u8]>::len)..];
        let Some(rest) = behind.strip_prefix(b"//") else {
            return (scheme.is_none() && value.starts_with(b"/")).then_some((b"", value));
        };
        let authority = rest.iter().position(|byte| b"/?#".contains(byte)).map_or(rest, |end| &rest[..end]);
        let default_port: &[u8] = if scheme == Some(b"https:") { b":443" } else { b":80" };
        let bare = |host: &'v [u8]| host.strip_suffix(default_port).unwrap_or(host);
        let names = |host: &[u8]| {
            let host = host.strip_suffix(default_port).unwrap_or(host);
            !host.is_empty() && bare(authority).eq_ignore_ascii_case(host)
        };
        let (origin, path) = value.split_at(value.len() - rest.len() + authority.len());
        if names(self.instance) {
            Some((b"", path))
        } else if names(self.forwarded.host) || names(self.forwarded.forwarded_host) {
            Some((origin, path))
        } else {
            None
        }
    }

    /// What `path` lacks of the prefix.
    fn missing(&self, path: &[u8]) -> &[u8] {
        let full = self.forwarded.prefix;
        let begins_with = |prefix: &[u8]| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.first().is_none_or(|byte| b"/?#".contains(byte)))
        };
        if self.is_always {
            full
        } else if begins_with(full) {
            b""
        } else if begins_with(self.own) {
            // The service knows its own name, and not what another proxy has cut off.
            full.strip_suffix(self.own).unwrap_or_default()
        } else {
            full
        }
    }

    /// `5; url=/a`: the URL in it, as browsers read it (HTML, "shared declarative refresh steps").
    fn refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let is_time = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let time = value.iter().take_while(|byte| is_time(byte)).count();
        let between = value[time..].iter().take_while(|byte| b";, \t".contains(byte)).count();
        let mut at = time + between;
        if let Some(rest) =
            value.get(at..at + 3).filter(|word| word.eq_ignore_ascii_case(b"url")).map(|_| &value[at + 3..])
            && let Some(rest) = rest.trim_ascii_start().strip_prefix(b"=")
        {
            at = value.len() - rest.trim_ascii_start().len();
        }
        let quote = value.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        at += usize::from(quote.is_some());
        let url = value.get(at..).filter(|_| between > 0)?;
        let url = url.iter().position(|byte| Some(*byte) == quote).map_or(url, |end| &url[..end]);
        let restored = self.reference(url)?;
        Some([&value[..at], &restored, &value[at + url.len()..]].concat())
    }

    /// `a=b; Path=/`: its `Path`, which is `/web` afterwards and thereby covers `/web` and all below (RFC 6265, section
    /// 5.1.4).
    fn set_cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let name = value.trim_ascii_start();
        if name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-")) {
            return None;
        }
        let mut parts = value.split(|byte| *byte == b';');
        let mut restored = parts.next()?.to_vec();
        for part in parts {
            restored.push(b';');
            let Some(path) = attribute(part, b"path").filter(|path| path.starts_with(b"/")) else {
                restored.extend_from_slice(part);
                continue;
            };
            let missing = self.missing(path);
            let (before, after) = part.split_at(part.trim_ascii_end().len() - path.len());
            let rest = if path == b"/" && !missing.is_empty() { &after[1..] } else { after };
            restored.extend_from_slice(&[before, missing, rest].concat());
        }
        (restored != value).then_some(restored)
    }
}

/// The value of a cookie's attribute, without the spaces around it.
fn attribute<'a>(part: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    part[..equals].trim_ascii().eq_ignore_ascii_case(name).then(|| part[equals + 1..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(prefix: &'static str) -> Site<'static> {
        let forwarded =
            Forwarded { prefix: prefix.as_bytes(), host: b"shop.example:8080", forwarded_host: b"www.example" };
        Site { forwarded, instance: b"10.0.0.5:8000", own: b"/web", is_always: false }
    }

    fn text(restored: Option<Vec<u8>>, value: &str) -> String {
        restored.map_or_else(|| value.to_owned(), |restored| String::from_utf8(restored).unwrap())
    }

    #[test]
    fn what_leads_to_the_instance_leads_through_the_gateway() {
        for (value, expected) in [
            ("/", "/web/"),
            ("/sub/?a=/b#c", "/web/sub/?a=/b#c"),
            ("http://10.0.0.5:8000/sub", "/web/sub"),
            ("HTTPS://10.0.0.5:8000", "/web/"),
            ("//10.0.0.5:8000?a", "/web/?a"),
            ("http://Shop.example:8080/sub", "http://Shop.example:8080/web/sub"),
            ("https://www.example:443/sub", "https://www.example:443/web/sub"),
            ("https://www.example", "https://www.example/web/"),
            ("//www.example#a", "//www.example/web/#a"),
            ("/webs", "/web/webs"),
        ] {
            assert_eq!(text(site("/web").reference(value.as_bytes()), value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_relative_or_leads_elsewhere_stays() {
        for value in [
            "",
            "sub/",
            "../sub",
            "?a",
            "#a",
            "//other.example/",
            "http://other.example/",
            "https://10.0.0.5/",
            "http://user@shop.example:8080/",
            "http://shop.example:8080.evil.example/",
            "mailto:a@b.c",
            "http:/sub",
            "/web",
            "/web/sub",
            "/web?a",
            "http://shop.example:8080/web/",
        ] {
            assert_eq!(site("/web").reference(value.as_bytes()), None, "{value}");
        }
        assert_eq!(site("/web").reference(b"http://10.0.0.5:8000/web/a"), Some(b"/web/a".to_vec()));
        let always = Site { is_always: true, ..site("/web") };
        assert_eq!(always.reference(b"/web/a"), Some(b"/web/web/a".to_vec()));
    }

    #[test]
    fn what_another_proxy_has_cut_off_is_kept_in_front() {
        for (value, expected) in [
            ("/sub", "/api/web/sub"),
            ("/web/sub", "/api/web/sub"),
            ("/api/web/sub", "/api/web/sub"),
            ("/api", "/api/web/api"),
        ] {
            assert_eq!(text(site("/api/web").reference(value.as_bytes()), value), expected, "{value}");
        }
    }

    #[test]
    fn the_url_of_a_refresh_is_found_as_browsers_find_it() {
        for (value, expected) in [
            ("5; url=/a", "5; url=/web/a"),
            ("0;URL='/a?b'", "0;URL='/web/a?b'"),
            ("1.5, /a", "1.5, /web/a"),
            ("0; url = \"/a\" x", "0; url = \"/web/a\" x"),
            ("5", "5"),
            ("5; url=a", "5; url=a"),
            ("", ""),
            ("/a", "/a"),
        ] {
            assert_eq!(text(site("/web").refresh(value.as_bytes()), value), expected, "{value}");
        }
    }

    #[test]
    fn a_cookie_is_for_the_service_and_not_for_its_neighbours() {
        for (value, expected) in [
            ("a=b; Path=/", "a=b; Path=/web"),
            ("a=b;path=/app;HttpOnly", "a=b;path=/web/app;HttpOnly"),
            ("a=b; HttpOnly; PATH = /app/ ; Secure", "a=b; HttpOnly; PATH = /web/app/ ; Secure"),
            ("a=b; Path=/ ; Secure", "a=b; Path=/web ; Secure"),
            ("a=b; Path=/web ; Secure", "a=b; Path=/web ; Secure"),
            ("a=b; Path=/app/", "a=b; Path=/web/app/"),
            ("a=b; Path=/web/x", "a=b; Path=/web/x"),
            ("path=/x; HttpOnly", "path=/x; HttpOnly"),
            ("a=b", "a=b"),
            ("a=b; Path=; Max-Age=1", "a=b; Path=; Max-Age=1"),
            ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
        ] {
            assert_eq!(text(site("/web").set_cookie(value.as_bytes()), value), expected, "{value}");
        }
    }
}
