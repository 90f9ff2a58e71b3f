//! Where messages go: one type, so that nothing above it cares.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    delivery::{DeliveryError, Reply},
    folder::Folder,
    message::Message,
    smtp::SmtpTransport,
};

/// Where messages go.
#[derive(Debug)]
pub enum Transport {
    /// To an SMTP server, in production.
    Smtp(SmtpTransport),
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
                    tracing::info!(removed, "removed unfinished files of a process that died");
                }
            }
        }
    }

    /// Hands `message` over; `Ok` when the other side is responsible for it, with its last word.
    ///
    /// # Errors
    /// At `deadline` at the latest, or `patience` later where the message is complete and the last word is missing.
    pub async fn deliver(
        &self,
        message: &Message,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Reply, DeliveryError> {
        match self {
            Self::Smtp(smtp) => smtp.deliver(message, deadline, patience).await,
            Self::Folder(folder) => {
                folder.deliver(message, deadline + patience).await.map(|()| Reply::new(250, "written to the folder"))
            }
        }
    }

    /// Whether a message could be handed over now.
    ///
    /// # Errors
    /// At `deadline` at the latest.
    pub async fn check(&self, deadline: Instant) -> Result<(), DeliveryError> {
        match self {
            Self::Smtp(smtp) => smtp.check(deadline).await,
            Self::Folder(folder) => folder.check(deadline).await,
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
