use crate::Instance;

/// What an instance announces that asks for no token: `meta.open=yes`.
///
/// Who may use a service is judged where users come in: a gateway that serves other machines warns of such a service.
/// One that announces nothing may be open all the same; a program of another origin does not know of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAccess;

// === impl OpenAccess ===

impl OpenAccess {
    /// The key of [`Instance::meta`].
    pub const META: &'static str = "open";
    /// Its value.
    pub const YES: &'static str = "yes";

    /// What an instance has to announce, if it is open.
    #[must_use]
    pub fn announced(is_open: bool) -> Option<(String, String)> {
        is_open.then(|| (Self::META.to_owned(), Self::YES.to_owned()))
    }

    /// Whether `instance` says that it asks for no token.
    #[must_use]
    pub fn is_said_by(instance: &Instance) -> bool {
        instance.meta.get(Self::META).is_some_and(|value| value == Self::YES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_instance_says_so_and_is_read_back() {
        let mut instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        assert!(!OpenAccess::is_said_by(&instance) && OpenAccess::announced(false).is_none());
        instance.meta.extend(OpenAccess::announced(true));
        let written = instance.to_string();
        assert_eq!(written, "http://10.0.0.5:7070?meta.open=yes");
        assert!(OpenAccess::is_said_by(&Instance::parse(written.as_bytes()).unwrap()));
    }
}
