//! Where the table is.

use std::path::PathBuf;

use super::{file, mistake::Mistake};

/// Which instances are checked instead of heard.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TableOptions {
    /// Instances that cannot send heartbeats, and how each is checked: a file of JSON, or of TOML when its name ends so. Every
    /// registry should have the same; one of them checks each instance. Read again when it changes.
    #[arg(long, env = "REGISTRY_SERVICES_FILE", value_name = "FILE")]
    pub services_file: Option<PathBuf>,
}

// === impl TableOptions ===

impl TableOptions {
    /// Everything that is wrong with the file.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let Some(path) = &self.services_file else { return Vec::new() };
        let mistakes = file::read(path).and_then(|bytes| file::parse(path, &bytes)).err().unwrap_or_default();
        let worded = |mistake: &Mistake| format!("{} (--services-file): {mistake}", path.display());
        mistakes.iter().map(worded).collect()
    }
}
