//! Paths that need no credential.
//!
//! The gateway passes a path on byte by byte, and servers differ in what they make of it: `//`, `/./`, `%2e%2e`, `;x`
//! and letters of the other case may all lead to another resource than they seem to. So a path is public only when no
//! server can read it in two ways: it has none of that, and equals a public path byte by byte. Every other spelling
//! needs what the service asks for, and the instance never sees one that was let through as something else.

/// Those of one service.
#[derive(Debug, Default)]
pub(crate) struct PublicPaths {
    exact: Vec<Box<str>>,
    /// Each ends with `/`.
    below: Vec<Box<str>>,
}

// === impl PublicPaths ===

impl PublicPaths {
    pub(crate) fn new(paths: &[String]) -> Self {
        let mut this = Self::default();
        for path in paths {
            match path.strip_suffix('*').filter(|start| start.ends_with('/')) {
                Some(start) => this.below.push(start.into()),
                None => this.exact.push(path.as_str().into()),
            }
        }
        this
    }

    /// Whether `path`, as it came and without its query, is one.
    pub(crate) fn has(&self, path: &str) -> bool {
        if self.exact.is_empty() && self.below.is_empty() {
            return false;
        }
        let is_listed = || {
            self.exact.iter().any(|public| **public == *path)
                || self.below.iter().any(|start| path.starts_with(&**start))
        };
        is_plain(path) && is_listed()
    }
}

/// Whether every server reads the path in the same way.
fn is_plain(path: &str) -> bool {
    let is_plain_byte = |byte: u8| byte.is_ascii_graphic() && !b"%;\\#".contains(&byte);
    let mut segments = path.split('/');
    let _before_the_first = segments.next();
    let last = segments.next_back();
    path.starts_with('/')
        && path.bytes().all(is_plain_byte)
        && segments.all(|segment| !segment.is_empty() && !is_dots(segment))
        && !last.is_some_and(is_dots)
}

fn is_dots(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_spelling_passes_for_a_public_path() {
        let public = PublicPaths::new(&["/healthz".to_owned(), "/static/*".to_owned(), "/".to_owned()]);
        for path in ["/healthz", "/static/", "/static/a.css", "/static/a/b", "/"] {
            assert!(public.has(path), "{path}");
        }
        for path in [
            "/healthz/",
            "/healthz/x",
            "/HEALTHZ",
            "/Static/a",
            "/static",
            "//healthz",
            "//static/a",
            "/static//a",
            "/static/../admin",
            "/static/..",
            "/static/./a",
            "/static/.../a",
            "/static/%2e%2e/admin",
            "/static/..%2fadmin",
            "/static/..;/admin",
            "/static/;/../admin",
            "/static/\\..\\admin",
            "/%68ealthz",
            "/healthz;x",
            "/healthz%00",
            "healthz",
            "",
            "*",
            "/static/a#b",
            "/admin",
        ] {
            assert!(!public.has(path), "{path}");
        }
        assert!(!PublicPaths::default().has("/"));
    }
}
