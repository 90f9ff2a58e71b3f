//! What is logged, by the config centre.

use discovery::{ServiceName, SettingKey};
use service_kit::telemetry;

use super::{SettingValue, follow};
use crate::HeartbeatOptions;

/// Lets `config/<service>/log` decide what this process logs, in the words of `--log`.
///
/// For as long as the runtime lives; `configured` counts while there is no such setting. A setting that makes no sense
/// is told of and changes nothing.
///
/// # Panics
///
/// Outside a Tokio runtime.
pub fn follow_log_filter(options: &HeartbeatOptions, service: &ServiceName, configured: &str) {
    let key: SettingKey = format!("{service}/log").parse().expect("the name of a service is a segment of a key");
    let mut setting = follow(options, key.clone());
    let configured = configured.to_owned();
    tokio::spawn(async move {
        let mut in_force = configured.clone();
        while setting.changed().await.is_ok() {
            let wanted = match &*setting.borrow_and_update() {
                SettingValue::Is { value, .. } => value.trim().to_owned(),
                SettingValue::Absent | SettingValue::Unknown => configured.clone(),
            };
            if wanted == in_force {
                continue;
            }
            match telemetry::refilter(&wanted) {
                Ok(()) => {
                    tracing::info!(%key, filter = wanted, "log filter changed");
                    in_force = wanted;
                }
                Err(reason) => {
                    tracing::warn!(%key, reason, filter = in_force, "invalid log filter; the current one stays")
                }
            }
        }
    });
}
