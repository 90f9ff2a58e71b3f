use crate::Instance;

/// Where a service honours `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
///
/// There, a request that comes again with the same key is answered as before and is not carried out again, *at
/// whichever instance it arrives*.
///
/// The header alone promises nothing: a client may send it to a service that has never heard of it. So an instance
/// announces its promise when it registers, as `meta.idempotency-key`:
///
/// | value | promise |
/// |---|---|
/// | `honoured` | every path honours keys |
/// | `/v1/messages /v1/orders/` | these paths do, and all below one that ends with `/`; separated by spaces |
/// | `/` | among such paths: the root alone, nothing below it |
///
/// An instance that keeps its keys to itself must not announce them: the repetition goes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HonouredKeys<'a>(&'a str);

// === impl HonouredKeys ===

impl<'a> HonouredKeys<'a> {
    /// The key of [`Instance::meta`] that holds the promise.
    pub const META: &'static str = "idempotency-key";
    /// The promise for every path.
    pub const EVERYWHERE: &'static str = "honoured";

    /// What `instance` promises; `None` when it promises nothing.
    pub fn of(instance: &'a Instance) -> Option<Self> {
        instance.meta.get(Self::META).map(|value| Self(value))
    }

    /// Whether the promise covers `path`, which is the instance's own, without its query.
    pub fn covers(self, path: &str) -> bool {
        self.0 == Self::EVERYWHERE || self.0.split(' ').any(|pattern| is_at(path, pattern))
    }
}

fn is_at(path: &str, pattern: &str) -> bool {
    let is_folder = pattern.ends_with('/') && pattern != "/";
    pattern.starts_with('/') && (path == pattern || is_folder && path.starts_with(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(value: &str, path: &str) -> bool {
        let mut instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        assert_eq!(HonouredKeys::of(&instance), None);
        instance.meta.insert(HonouredKeys::META.to_owned(), value.to_owned());
        instance.check().unwrap();
        HonouredKeys::of(&instance).unwrap().covers(path)
    }

    #[test]
    fn a_promise_is_for_every_path_or_for_those_that_it_names() {
        assert!(covers("honoured", "/") && covers("honoured", "/v1/messages"));
        let some = "/v1/messages /v1/orders/";
        assert!(covers(some, "/v1/messages") && covers(some, "/v1/orders/") && covers(some, "/v1/orders/7/pay"));
        for path in ["/", "/v1", "/v1/messages/7/cancel", "/v1/messages2", "/v1/orders", ""] {
            assert!(!covers(some, path), "{path}");
        }
    }

    #[test]
    fn the_root_among_paths_is_the_root_alone() {
        let promise = "/ /v1/messages";
        assert!(covers(promise, "/") && covers(promise, "/v1/messages"));
        assert!(!covers(promise, "/v1/messages/7/requeue") && !covers(promise, "/v1"));
    }

    #[test]
    fn what_is_not_understood_promises_nothing() {
        for value in ["", " ", "yes", "ignored", "v1/messages", "Honoured"] {
            assert!(!covers(value, "/v1/messages") && !covers(value, ""), "{value}");
        }
    }

    #[test]
    fn a_promise_survives_being_written_to_etcd() {
        let mut instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        instance.meta.insert(HonouredKeys::META.to_owned(), "/v1/messages /v1/orders/".to_owned());
        let read = Instance::parse(instance.to_string().as_bytes()).unwrap();
        assert!(HonouredKeys::of(&read).unwrap().covers("/v1/orders/7"), "{instance}");
        let by_hand = Instance::parse(b"http://10.0.0.5:7070?meta.idempotency-key=honoured").unwrap();
        assert!(HonouredKeys::of(&by_hand).unwrap().covers("/"));
    }
}
