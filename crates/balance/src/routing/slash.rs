//! `/web` is a page when a browser asks for it, and its relative links must lead into the service: the browser is sent to
//! `/web/`, as web servers do with folders.
//!
//! Only browsers are: a GET or HEAD that would take `text/html` by name. To a program that asks for `/mail`, which says
//! `Accept: */*` or nothing, that is `/` of mail, and no redirect would be followed by a POST. The status is 307, because
//! browsers remember a permanent one beyond the day when another service, or another policy, is there.

use http1::{Method, Request};

/// Where the browser is to go instead; `None` for everything else. `asked` is what follows the service's name, and `prefix` is
/// everything up to there.
pub(crate) fn location(request: &Request<'_>, asked: &str, prefix: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
    if !(asked.is_empty() || asked.starts_with('?')) || !matches!(request.method, Method::Get | Method::Head) {
        return None;
    }
    accepts_html(request).then(|| {
        let mut location = prefix();
        location.push(b'/');
        location.extend_from_slice(asked.as_bytes());
        location
    })
}

fn accepts_html(request: &Request<'_>) -> bool {
    let html = b"text/html";
    let mut accepts = request.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept"));
    accepts.any(|accept| accept.value.windows(html.len()).any(|range| range.eq_ignore_ascii_case(html)))
}
