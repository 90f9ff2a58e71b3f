use std::{fmt, str::FromStr};

use discovery::{FieldError, InstanceId, ServiceName, SettingKey};
use url::Url;

/// Where a registry listens: `http://HOST:PORT`, with a path in front if a proxy puts it under one.
///
/// `https://` works alike; with `grpc://` and `grpcs://` heartbeats go over gRPC to the same port, and everything else over HTTP.
/// User and password are refused, because the URL is logged; tokens are in
/// [`Credentials`](crate::Credentials).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    /// Of its HTTP side.
    url: Url,
    is_rpc: bool,
}

// === impl RegistryUrl ===

impl RegistryUrl {
    /// `…/v1/services/{service}/instances/{instance}`.
    pub(crate) fn instance(&self, service: &ServiceName, instance: &InstanceId) -> Url {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend([
            "v1",
            "services",
            service.as_str(),
            "instances",
            instance.as_str(),
        ]);
        url
    }

    /// `…/v1/services/{service}/instances`.
    pub(crate) fn instances(&self, service: &ServiceName) -> Url {
        let mut url = self.url.clone();
        let mut path = url.path_segments_mut().expect("an http URL has a path");
        path.pop_if_empty().extend(["v1", "services", service.as_str(), "instances"]);
        drop(path);
        url
    }

    /// `…/v1/config/{key}`.
    pub(crate) fn setting(&self, key: &SettingKey) -> Url {
        let mut url = self.url.clone();
        let mut path = url.path_segments_mut().expect("an http URL has a path");
        path.pop_if_empty().extend(["v1", "config"]).extend(key.as_str().split('/'));
        drop(path);
        url
    }

    /// Whether heartbeats go over gRPC.
    pub(crate) fn is_rpc(&self) -> bool {
        self.is_rpc
    }

    /// `HOST:PORT`
    pub(crate) fn authority(&self) -> String {
        let host = self.url.host_str().expect("an http URL has a host");
        format!("{host}:{}", self.host_and_port().1)
    }

    /// Whether it is reached over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host (an IPv6 address without brackets) and port, for looking up where heartbeats go.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let host = self.url.host_str().expect("an http URL has a host");
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host, self.url.port_or_known_default().expect("http has a default port"))
    }
}

impl FromStr for RegistryUrl {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| Err(FieldError::new("registry", what));
        let text = text.trim();
        if text.is_empty() {
            return refuse("it is empty; write for example http://10.0.0.2:8500");
        }
        if !text.contains("://") {
            return refuse(&format!("the scheme is missing; write http://{}", text.escape_debug()));
        }
        let over_http = [("grpc://", "http://"), ("grpcs://", "https://")];
        let rpc = over_http.iter().find_map(|(rpc, http)| Some(format!("{http}{}", text.strip_prefix(rpc)?)));
        let is_rpc = rpc.is_some();
        let url = match Url::parse(rpc.as_deref().unwrap_or(text)) {
            Ok(url) => url,
            Err(error) => return refuse(&format!("{error}; write for example http://10.0.0.2:8500")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("only http, https, grpc and grpcs are spoken to registries; write http://HOST:PORT");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a registry takes no user or password; write http://HOST:PORT");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("'?' and '#' have no meaning here; write http://HOST:PORT");
        }
        if is_rpc && url.path() != "/" {
            return refuse("gRPC knows no path in front; write grpc://HOST:PORT");
        }
        Ok(Self { url, is_rpc })
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_str().trim_end_matches('/');
        match url.strip_prefix("http").filter(|_| self.is_rpc) {
            Some(rest) => f.pad(&format!("grpc{rest}")),
            None => f.pad(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryUrl, FieldError> {
        text.parse()
    }

    #[test]
    fn the_path_of_an_instance_is_below_the_path_of_the_registry() {
        let service = "mail".parse().unwrap();
        let id = "::1:7070".parse().unwrap();
        for (registry, expected) in [
            ("http://a:8500", "http://a:8500/v1/services/mail/instances/::1:7070"),
            ("http://a:8500/", "http://a:8500/v1/services/mail/instances/::1:7070"),
            ("http://a/behind/a/proxy/", "http://a/behind/a/proxy/v1/services/mail/instances/::1:7070"),
        ] {
            assert_eq!(parse(registry).unwrap().instance(&service, &id).as_str(), expected);
        }
    }

    #[test]
    fn over_grpc_everything_but_heartbeats_goes_over_http_to_the_same_port() {
        let registry = parse("grpcs://a:8500").unwrap();
        assert!(registry.is_rpc() && registry.is_tls());
        assert_eq!((registry.host_and_port(), registry.authority().as_str()), (("a", 8500), "a:8500"));
        assert_eq!(registry.setting(&"mail".parse().unwrap()).as_str(), "https://a:8500/v1/config/mail");
        assert!(!parse("http://a:8500").unwrap().is_rpc());
    }

    #[test]
    fn the_segments_of_a_setting_stay_segments() {
        let key = "mail/limits.v2".parse().unwrap();
        assert_eq!(parse("http://a/proxy").unwrap().setting(&key).as_str(), "http://a/proxy/v1/config/mail/limits.v2");
    }

    #[test]
    fn host_and_port_are_ready_to_be_looked_up() {
        assert_eq!(parse("http://[::1]:8500").unwrap().host_and_port(), ("::1", 8500));
        assert_eq!(parse("http://registry").unwrap().host_and_port(), ("registry", 80));
    }

    #[test]
    fn it_is_shown_without_the_slash_at_the_end() {
        assert_eq!(parse(" http://a:8500/ ").unwrap().to_string(), "http://a:8500");
        for text in ["grpc://a:8500", "grpcs://[::1]:8500"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_registry_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "http://10.0.0.2:8500"),
            ("10.0.0.2:8500", "write http://10.0.0.2:8500"),
            ("http://", "write for example"),
            ("http://a:99999", "write for example"),
            ("ftp://a", "only http, https, grpc and grpcs"),
            ("grpc://a/proxy", "no path"),
            ("grpc://user:secret@a", "no user or password"),
            ("http://user:secret@a", "no user or password"),
            ("http://a?x=1", "no meaning"),
            ("http://a#x", "no meaning"),
        ] {
            let reason = parse(text).unwrap_err().reason;
            assert!(reason.contains(hint) && !reason.contains("secret"), "{text}: {reason}");
        }
    }
}
