//! A request that is let through, or will be when a question is answered.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use discovery::policy::ForwardAuth;
use service_kit::connections::ClientNetwork;

use crate::{
    access::{
        basic,
        identity::{self, Identity},
        in_flight::Place,
        issued::Issued,
        limits::Limits,
        refusals::Refusals,
    },
    clock::Clock,
    message::{denial::Denial, request::UpstreamRequest},
};

/// How long a request waits for the answer to a question.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A request that is let through, once all questions are answered.
#[derive(Default)]
pub(crate) struct Passed {
    pub(super) identity: Option<Arc<Identity>>,
    /// The fields that no client may send.
    reserved: Option<Arc<[Arc<str>]>>,
    /// Those of the credentials, which end here.
    pub(super) spent: Vec<Arc<str>>,
    pub(super) questions: Vec<Question>,
    /// Who the client is if the answer is no, where one way in is enough.
    pub(super) otherwise: Option<Arc<Identity>>,
    /// Whether one way in is enough.
    pub(super) is_any: bool,
    /// A service that is to be asked, and the question.
    pub(super) forward: Option<(Arc<ForwardAuth>, Option<Box<UpstreamRequest>>)>,
    /// How much the client may have.
    limits: Option<(Arc<Limits>, ClientNetwork)>,
    /// What it has.
    place: Option<Place>,
}

/// What cannot be judged at once.
pub(super) enum Question {
    /// A password whose slow hash is being worked out.
    Password(basic::Pending, Arc<Refusals>),
    /// A token whose key is not known yet.
    Token(Box<[u8]>, Arc<Issued>, Arc<Refusals>),
}

// === impl Passed ===

impl Passed {
    /// One whose fields called `reserved` end here.
    pub(super) fn without(reserved: Arc<[Arc<str>]>) -> Self {
        Self { reserved: Some(reserved), ..Self::default() }
    }

    /// The same for a client that may have so much.
    pub(super) fn limited(self, limits: Option<(Arc<Limits>, ClientNetwork)>) -> Self {
        Self { limits, ..self }
    }

    /// The hash of the API key that the client has shown.
    pub(crate) fn key(&self) -> Option<[u8; 32]> {
        self.identity.as_ref()?.key
    }

    /// Takes along what a service is to be asked, if one is, while the request is there to be read.
    pub(crate) fn asking(mut self, question: impl FnOnce(&ForwardAuth) -> UpstreamRequest) -> Self {
        if let Some((rule, asked)) = &mut self.forward {
            let mut question = question(rule);
            // What only the gateway says of a client, it says of none yet; a credential is what is asked about.
            let reserved = self.reserved.iter().flat_map(|reserved| reserved.iter());
            let reserved = reserved.filter(|name| !name.eq_ignore_ascii_case("authorization"));
            if let Some(head) = question.open_head() {
                identity::replace(head, || reserved.clone(), None);
            }
            *asked = Some(Box::new(question));
        }
        self
    }

    /// The service that is to be asked, and the question.
    pub(crate) fn take_question(&mut self) -> Option<(Arc<ForwardAuth>, Option<Box<UpstreamRequest>>)> {
        self.forward.take()
    }

    /// A service has said who the client is.
    pub(crate) fn identified(&mut self, identity: Arc<Identity>) {
        self.identity.get_or_insert(identity);
    }

    /// Waits for the answers to all questions but that to a service.
    ///
    /// # Errors
    ///
    /// Why the request does not pass.
    pub(crate) async fn settle(&mut self, clock: &Clock) -> Result<(), Box<Denial>> {
        let is_any = self.is_any;
        for question in std::mem::take(&mut self.questions) {
            let answer = tokio::time::timeout(ANSWER_MAX, question.answer(clock)).await;
            let late = "your credentials could not be checked in time; come again";
            match answer.unwrap_or_else(|_| Err(Box::new(Denial::unavailable(late)))) {
                Ok(identity) => {
                    self.identity.get_or_insert(identity);
                    if is_any {
                        self.forward = None;
                    }
                }
                Err(denial) if self.otherwise.is_none() && (self.forward.is_none() || !is_any) => return Err(denial),
                Err(_) => self.identity = self.otherwise.take(),
            }
        }
        Ok(())
    }

    /// Takes the client's place, before any question is put: one that waits for an answer is under way. Hold on to this
    /// until the last byte.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(crate) fn enter(&mut self) -> Result<(), Box<Denial>> {
        if let Some((limits, client)) = &self.limits {
            self.place = limits.enter(*client)?;
        }
        Ok(())
    }

    /// Counts the request by who the client is.
    ///
    /// # Errors
    ///
    /// There were too many.
    pub(crate) fn count(&self, now: Instant) -> Result<(), Box<Denial>> {
        let Some((limits, client)) = &self.limits else { return Ok(()) };
        limits.take_after(self.identity.as_deref(), *client, now)
    }

    /// Takes out of the head what ends here, and says who the client is.
    pub(crate) fn write(&self, head: &mut Vec<u8>) {
        let reserved = self.reserved.iter().flat_map(|reserved| reserved.iter());
        identity::replace(head, || reserved.clone().chain(&self.spent), self.identity.as_deref());
    }
}

// === impl Question ===

impl Question {
    async fn answer(self, clock: &Clock) -> Result<Arc<Identity>, Box<Denial>> {
        match self {
            Self::Password(pending, refusals) => pending.settle().await.ok_or_else(|| refusals.wrong_password()),
            Self::Token(token, issued, refusals) => {
                let checked = issued.check_again(&token, clock).await;
                issued.judged(checked, &refusals)
            }
        }
    }
}

impl fmt::Debug for Passed {
    /// Without the question to a service, which has the request's credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Passed");
        shown.field("identity", &self.identity).field("questions", &self.questions).finish_non_exhaustive()
    }
}

impl fmt::Debug for Question {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password",
            Self::Token(..) => "Token",
        })
    }
}
