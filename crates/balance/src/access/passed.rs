//! A request that is let through, or will be when a question is answered.

use std::{sync::Arc, time::Duration};

use crate::{
    access::{
        basic,
        identity::{self, Identity},
        issued::Issued,
        refusals::Refusals,
    },
    message::denial::Denial,
};

/// How long a request waits for the answer to a question.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A request that is let through, once all questions are answered.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(super) identity: Option<Arc<Identity>>,
    /// The fields that end here: those that no client may send, and those of the credentials.
    pub(super) stripped: Vec<Arc<str>>,
    pub(super) questions: Vec<Question>,
}

/// What cannot be judged at once.
#[derive(Debug)]
pub(super) enum Question {
    /// A password whose slow hash is being worked out.
    Password(basic::Pending, Arc<Refusals>),
    /// A token whose key is not known yet.
    Token(Box<[u8]>, Arc<Issued>, Arc<Refusals>),
}

// === impl Passed ===

impl Passed {
    /// Whether nothing is left to be asked.
    pub(crate) fn is_settled(&self) -> bool {
        self.questions.is_empty()
    }

    /// Waits for the answers to all questions.
    ///
    /// # Errors
    ///
    /// Why the request does not pass.
    pub(crate) async fn settle(&mut self) -> Result<(), Box<Denial>> {
        for question in std::mem::take(&mut self.questions) {
            let answer = tokio::time::timeout(ANSWER_MAX, question.answer()).await;
            let late = "your credentials could not be checked in time; come again";
            let identity = answer.unwrap_or_else(|_| Err(Box::new(Denial::unavailable(late))))?;
            self.identity.get_or_insert(identity);
        }
        Ok(())
    }

    /// Takes out of the head what ends here, and says who the client is.
    pub(crate) fn write(&self, head: &mut Vec<u8>) {
        identity::replace(head, &self.stripped, self.identity.as_deref());
    }
}

// === impl Question ===

impl Question {
    async fn answer(self) -> Result<Arc<Identity>, Box<Denial>> {
        match self {
            Self::Password(pending, refusals) => pending.settle().await.ok_or_else(|| refusals.wrong_password()),
            Self::Token(token, issued, refusals) => {
                let checked = issued.check_again(&token).await;
                issued.judged(checked, &refusals)
            }
        }
    }
}
