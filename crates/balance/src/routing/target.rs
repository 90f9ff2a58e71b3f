//! `/mail/a%20b?c` → the service `mail` and what it is asked for, `/a%20b?c`.
//!
//! Nothing is decoded and nothing is normalised: the rest reaches the instance byte by byte as it was sent, and a first
//! segment that needs decoding is no service name. What two parsers could understand differently is thereby understood
//! by one only, the instance's.

/// The service that a request is for, borrowed from its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// `/`: for the gateway itself.
    Root,
    /// For a service; it may not exist, and `service` may not even be a valid name.
    Service {
        /// The first segment.
        service: &'a str,
        /// What follows it: empty, or starting with `/` or `?`.
        rest: &'a str,
    },
}

/// Splits the path and query of a request in origin-form (RFC 9112, section 3.2.1).
pub(crate) fn parse(path_and_query: &str) -> Target<'_> {
    let path = path_and_query.strip_prefix('/').unwrap_or(path_and_query);
    let (service, rest) = path.split_at(path.find(['/', '?']).unwrap_or(path.len()));
    if service.is_empty() && !rest.starts_with('/') {
        return Target::Root;
    }
    Target::Service { service, rest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_segment_is_the_service_and_the_rest_is_untouched() {
        for (target, service, asked) in [
            ("/mail", "mail", ""),
            ("/mail/", "mail", "/"),
            ("/mail?a=/b", "mail", "?a=/b"),
            ("/mail/?", "mail", "/?"),
            ("/mail/v1/a%2Fb;c?x=%20&y", "mail", "/v1/a%2Fb;c?x=%20&y"),
            ("/mail//x/../y", "mail", "//x/../y"),
            ("/ma%69l/x", "ma%69l", "/x"),
            ("//mail", "", "/mail"),
            ("*", "*", ""),
        ] {
            let Target::Service { service: found, rest } = parse(target) else { panic!("{target} is somebody's") };
            assert_eq!((found, rest), (service, asked), "{target}");
        }
    }

    #[test]
    fn the_root_is_nobodys() {
        for target in ["/", "/?a=b", ""] {
            assert_eq!(parse(target), Target::Root, "{target}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_added(service in "[a-z0-9-]{1,63}", rest in "([/?][!-~]{0,40})?") {
            let target = format!("/{service}{rest}");
            prop_assert_eq!(parse(&target), Target::Service { service: &service, rest: &rest });
        }
    }
}
