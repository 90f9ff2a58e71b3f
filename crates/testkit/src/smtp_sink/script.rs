//! What the server does at which step of a conversation.

use std::collections::{HashMap, VecDeque};

/// A moment at which the server can misbehave, in the order of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A connection was accepted; the greeting is due.
    Greeting,
    /// `EHLO`.
    Ehlo,
    /// `HELO`, which a client says to a server that does not know `EHLO`.
    Helo,
    /// `STARTTLS`.
    StartTls,
    /// `AUTH`, before the password is looked at.
    Auth,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`.
    Data,
    /// 354 was sent, the message is on its way: only [`Behaviour::Hang`] (stop reading) and [`Behaviour::Drop`] make
    /// sense.
    Text,
    /// The final dot was received; the reply that decides is due.
    EndOfData,
    /// `RSET`.
    Reset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
}

/// What the server does instead of going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers this, and does not do what was asked.
    Reply(String),
    /// Does what was asked, and answers this.
    DoAndReply(String),
    /// [`Reply`](Self::Reply) in bytes of any charset, without the CR LF at its end.
    ReplyBytes(Vec<u8>),
    /// [`DoAndReply`](Self::DoAndReply) in bytes of any charset, without the CR LF at its end.
    DoAndReplyBytes(Vec<u8>),
    /// Never answers; waits until the client closes.
    Hang,
    /// Closes the connection without an answer.
    Drop,
    /// Does what was asked (at [`Step::EndOfData`]: keeps the message), then never answers.
    DoAndHang,
    /// Does what was asked, then closes without an answer.
    DoAndDrop,
    /// Waits for [`release`](super::SmtpSink::release), then does what was asked and answers as usual.
    Hold,
}

impl Behaviour {
    /// [`Behaviour::Reply`]; several lines are separated by CR LF.
    pub fn reply(text: &str) -> Self {
        Self::Reply(text.to_owned())
    }

    /// Whether the step takes place all the same.
    pub(super) fn does_the_step(&self) -> bool {
        match self {
            Self::DoAndReply(_) | Self::DoAndReplyBytes(_) | Self::DoAndHang | Self::DoAndDrop | Self::Hold => true,
            Self::Reply(_) | Self::ReplyBytes(_) | Self::Hang | Self::Drop => false,
        }
    }
}

/// The behaviours asked for; a step without one goes well.
#[derive(Debug, Default)]
pub(super) struct Script {
    always: HashMap<Step, Behaviour>,
    once: HashMap<Step, VecDeque<Behaviour>>,
}

impl Script {
    pub(super) fn always(&mut self, step: Step, behaviour: Behaviour) {
        self.always.insert(step, behaviour);
    }

    pub(super) fn once(&mut self, step: Step, behaviour: Behaviour) {
        self.once.entry(step).or_default().push_back(behaviour);
    }

    /// What to do now; a `once` is used up by asking.
    pub(super) fn next(&mut self, step: Step) -> Option<Behaviour> {
        let once = self.once.get_mut(&step).and_then(VecDeque::pop_front);
        once.or_else(|| self.always.get(&step).cloned())
    }
}
