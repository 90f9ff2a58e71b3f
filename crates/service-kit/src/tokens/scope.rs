//! What a token may do: services times actions.

use std::{fmt, str::FromStr};

/// What a caller wants to do to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look: lists, users, messages.
    Read,
    /// Announce and withdraw instances.
    Register,
    /// Change what the service keeps: send a message, put a user.
    Write,
    /// An operator's business: drain, requeue, import.
    Operate,
    /// Change the service's policy under `config/`.
    Config,
}

/// One right: `mail:register`, `*:read`, `mail:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `None`: every service.
    service: Option<String>,
    /// `None`: every action.
    action: Option<Action>,
}

/// A name and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who, as it may stand in logs.
    pub name: String,
    /// What; nothing else.
    pub scopes: Vec<Scope>,
    /// Tells what proved it from other tokens, and is of no use to prove anything.
    pub(super) proof: [u8; 32],
}

/// Text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scope is SERVICE:ACTION, either may be *, the action is one of read, register, write, operate, config")]
pub struct ScopeError;

// === impl Action ===

impl Action {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Read, Self::Register, Self::Write, Self::Operate, Self::Config];

    /// As it is written in a scope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Register => "register",
            Self::Write => "write",
            Self::Operate => "operate",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Scope ===

impl Scope {
    /// Whether this gives the right to do `action` to `service`; `*` stands for all services at once.
    #[must_use]
    pub fn allows(&self, service: &str, action: Action) -> bool {
        self.service.as_deref().is_none_or(|own| own == service) && self.action.is_none_or(|own| own == action)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (service, action) = text.split_once(':').ok_or(ScopeError)?;
        let service = match service {
            "*" => None,
            name if is_name(name) => Some(name.to_owned()),
            _ => return Err(ScopeError),
        };
        let action = match action {
            "*" => None,
            word => Some(Action::ALL.into_iter().find(|action| action.as_str() == word).ok_or(ScopeError)?),
        };
        Ok(Self { service, action })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.as_deref().unwrap_or("*");
        let action = self.action.map_or("*", Action::as_str);
        write!(f, "{service}:{action}")
    }
}

/// A DNS label, as services are called.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

// === impl Grant ===

impl Grant {
    /// Whether one of the scopes allows it.
    #[must_use]
    pub fn allows(&self, service: &str, action: Action) -> bool {
        self.scopes.iter().any(|scope| scope.allows(service, action))
    }

    /// Whether it is allowed for at least one service.
    #[must_use]
    pub fn allows_somewhere(&self, action: Action) -> bool {
        self.scopes.iter().any(|scope| scope.action.is_none_or(|own| own == action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_what_it_names_and_nothing_else() {
        for (scope, service, action, expected) in [
            ("mail:register", "mail", Action::Register, true),
            ("mail:register", "mail", Action::Read, false),
            ("mail:register", "mail-2", Action::Register, false),
            ("mail:*", "mail", Action::Operate, true),
            ("*:read", "anything", Action::Read, true),
            ("*:read", "*", Action::Read, true),
            ("mail:read", "*", Action::Read, false),
            ("*:*", "*", Action::Config, true),
        ] {
            assert_eq!(scope.parse::<Scope>().unwrap().allows(service, action), expected, "{scope} {service} {action}");
        }
    }

    #[test]
    fn scopes_are_read_strictly_and_written_as_they_are_read() {
        for text in ["mail:read", "*:*", "a-1:config", "*:operate"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "mail", ":", "mail:", ":read", "mail:reed", "Mail:read", "ma*:read", "a.b:read", "mail:read:x"]
        {
            assert_eq!(text.parse::<Scope>(), Err(ScopeError), "{text}");
        }
    }
}
