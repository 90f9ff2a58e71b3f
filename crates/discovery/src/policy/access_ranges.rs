//! Which values of a policy make sense that say who may use a service. Every bound is in the documentation of its field.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Auth, Networks, Policy, ranges::check_token};
use crate::{FieldError, field_error::quoted};

// === impl Policy ===

impl Policy {
    pub(super) fn check_access(&self) -> Result<(), FieldError> {
        self.auth.as_ref().map_or(Ok(()), Auth::check)
    }
}

// === impl Auth ===

impl Auth {
    fn check(&self) -> Result<(), FieldError> {
        at_most("auth.public_paths", self.public_paths.len(), Self::PUBLIC_PATHS_MAX)?;
        self.public_paths.iter().try_for_each(|path| check_public_path(path))?;
        self.networks.as_ref().map_or(Ok(()), Networks::check)?;
        self.keys.as_ref().map_or(Ok(()), |keys| check_token("auth.keys.header", &keys.header))
    }
}

// === impl Networks ===

impl Networks {
    fn check(&self) -> Result<(), FieldError> {
        for (path, list) in [("auth.networks.allow", &self.allow), ("auth.networks.deny", &self.deny)] {
            at_most(path, list.len(), Self::MAX)?;
            if let Some(text) = list.iter().find(|text| Self::read(text).is_none()) {
                let reason =
                    format!("{} is no network; give an address, or one with its bits, 10.0.0.0/8", quoted(text));
                return Err(FieldError::new(path, reason));
            }
        }
        Ok(())
    }

    /// The network that `text` means; an address is a network of one.
    #[must_use]
    pub fn read(text: &str) -> Option<IpNet> {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(address)
    }
}

/// Refuses a list that is longer than it may be.
pub(super) fn at_most(path: &'static str, count: usize, max: usize) -> Result<(), FieldError> {
    if count <= max {
        return Ok(());
    }
    Err(FieldError::new(path, format!("are {count}; {max} are allowed")))
}

/// A path that is read in one way only, so that it can be compared with what comes.
fn check_public_path(path: &str) -> Result<(), FieldError> {
    let plain = path.strip_suffix("/*").map_or(path, |start| if start.is_empty() { "/" } else { start });
    let has_dots = plain.split('/').any(|segment| matches!(segment, "." | ".."));
    let is_plain = plain.bytes().all(|byte| byte.is_ascii_graphic() && !b"%;\\?#*".contains(&byte));
    let is_fine = plain.starts_with('/') && !plain.contains("//") && !has_dots && is_plain;
    if is_fine && path.len() <= Auth::PATH_MAX_BYTES {
        return Ok(());
    }
    let reason = format!("{} is no plain path; give it as /healthz, or /static/* for all that is below", quoted(path));
    Err(FieldError::new("auth.public_paths", reason))
}
