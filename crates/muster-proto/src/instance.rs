//! An instance, as it says what it is.

use std::{collections::BTreeSet, str::FromStr};

use discovery::{Address, FieldError, HealthPath, Instance, Reason, Scheme, Status, Weight, heartbeat::FullHeartbeat};

use crate::v1;

/// `None` for an absent field, which is an empty one.
pub(crate) fn given<T: FromStr<Err = FieldError>>(text: &str, field: &'static str) -> Result<Option<T>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: FieldError| error.under(field))
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

// === impl v1::Instance ===

impl v1::Instance {
    /// As the full heartbeat has it. Its bounds are held by [`FullHeartbeat::into_parts`].
    ///
    /// # Errors
    ///
    /// The first field that cannot be read.
    pub fn into_heartbeat(self) -> Result<FullHeartbeat, FieldError> {
        let address = given::<Address>(&self.address, "address")?;
        let Some(address) = address else { return Err(FieldError::new("address", "is missing; give HOST:PORT")) };
        let status = v1::Status::try_from(self.status).map_err(|_| {
            FieldError::new("status", format!("{} is unknown; give one of muster.v1.Status", self.status))
        })?;
        let weight = (self.weight != 0).then(|| Weight::try_from(u64::from(self.weight))).transpose()?;
        Ok(FullHeartbeat {
            address,
            scheme: given::<Scheme>(&self.scheme, "scheme")?,
            weight,
            zone: text(self.zone),
            version: text(self.version),
            health: given::<HealthPath>(&self.health, "health")?,
            status: status.known(),
            reason: given::<Reason>(&self.reason, "reason")?,
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect::<BTreeSet<_>>()),
            meta: (!self.meta.is_empty()).then_some(self.meta),
            ttl_ms: None,
            incarnation: None,
        })
    }
}

impl From<&Instance> for v1::Instance {
    fn from(instance: &Instance) -> Self {
        let Instance { address, scheme, weight, zone, version, health, status, reason, tags, meta } = instance;
        Self {
            address: address.to_string(),
            scheme: if *scheme == Scheme::default() { String::new() } else { scheme.as_str().to_owned() },
            weight: if *weight == Weight::default() { 0 } else { weight.get().into() },
            zone: zone.clone().unwrap_or_default(),
            version: version.clone().unwrap_or_default(),
            health: health.as_ref().map(|path| path.as_str().to_owned()).unwrap_or_default(),
            status: v1::Status::from(*status).into(),
            reason: reason.as_ref().map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
            tags: tags.iter().cloned().collect(),
            meta: meta.clone(),
        }
    }
}

// === impl v1::Status ===

impl v1::Status {
    /// `None` when it is unspecified.
    #[must_use]
    pub fn known(self) -> Option<Status> {
        match self {
            Self::Unspecified => None,
            Self::Passing => Some(Status::Passing),
            Self::Degraded => Some(Status::Degraded),
            Self::Draining => Some(Status::Draining),
            Self::Critical => Some(Status::Critical),
        }
    }
}

impl From<Status> for v1::Status {
    fn from(status: Status) -> Self {
        match status {
            Status::Passing => Self::Passing,
            Status::Degraded => Self::Degraded,
            Status::Draining => Self::Draining,
            Status::Critical => Self::Critical,
        }
    }
}
