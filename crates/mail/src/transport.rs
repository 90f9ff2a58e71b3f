//! Where messages go: one type, so that nothing above it cares.

pub mod attempt_log;
pub mod deadlines;
pub mod folder;
pub mod health;
pub mod outcome;
pub mod smtp;

use crate::message::Message;

use deadlines::StepDeadlines;
use folder::Folder;
use outcome::{DeliveryError, Outcome, Reply, Stage};
use smtp::SmtpTransport;

/// Where messages go.
#[derive(Debug)]
pub enum Transport {
    /// To an SMTP server, in production.
    Smtp(Box<SmtpTransport>),
    /// Into a folder, where nothing is configured.
    Folder(Folder),
}

impl Transport {
    /// Its name in `/readyz` and in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Folder(_) => "folder",
        }
    }

    /// Clears away what an earlier process left behind.
    pub async fn tidy(&self) {
        match self {
            Self::Smtp(_) => {}
            Self::Folder(folder) => {
                let removed = folder.tidy().await;
                if removed > 0 {
                    tracing::info!(removed, "removed unfinished files of a process that was killed");
                }
            }
        }
    }

    /// Hands `message` over to all recipients of its envelope: how it ended for each of them, in their order. `Ok` when
    /// the other side is responsible for it, with its final reply. Ends when `deadlines` says at the latest.
    pub async fn deliver(&self, message: &Message, deadlines: StepDeadlines) -> Vec<Outcome> {
        match self {
            Self::Smtp(smtp) => smtp.deliver(message, deadlines).await,
            Self::Folder(folder) => {
                let deadline = deadlines.ends_from_now(Stage::EndOfData);
                let written = folder.deliver(message, deadline).await;
                let outcome = written.map(|()| Reply::new(250, "written to the folder"));
                vec![outcome; message.envelope().to().len()]
            }
        }
    }

    /// Whether a message could be handed over now.
    ///
    /// # Errors
    /// When `deadlines` says at the latest.
    pub async fn check(&self, deadlines: StepDeadlines) -> Result<(), DeliveryError> {
        match self {
            Self::Smtp(smtp) => smtp.check(deadlines).await,
            Self::Folder(folder) => folder.check(deadlines.ends_from_now(Stage::Session)).await,
        }
    }

    /// Takes leave of the other side.
    pub async fn close(&self) {
        match self {
            Self::Smtp(smtp) => smtp.close().await,
            Self::Folder(_) => {}
        }
    }
}
