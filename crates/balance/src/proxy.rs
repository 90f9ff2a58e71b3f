//! A request's way through the gateway, from its head to the last byte of its response.
//!
//! | file | |
//! |---|---|
//! | `gateway` | **the life of a request, on one page** |
//! | `context` | what one core has to serve requests with |
//! | `admission` | what passes, and which service it is for |
//! | `auth_service`, `question` | asking a service who may pass; the question as an exchange of the gateway's own |
//! | `checked` | what a judgement about who may pass comes to |
//! | `forward` | pick, attempt, judge, maybe another attempt |
//! | `hedge` | the attempts that are under way |
//! | `retry` | whether the request may be tried again |
//! | `relay`, `tunnel` | from the head of the response to its end |
//! | `pass` | from the one exchange to the other |
//! | `record` | how a response has ended, and what follows for its instance |
//! | `reply` | the gateway's own answers on their way to the client |
//! | `unavailable` | why no instance answers, in a sentence |

pub(crate) mod admission;
mod auth_service;
pub(crate) mod checked;
pub(crate) mod context;
pub(crate) mod forward;
pub(crate) mod gateway;
pub(crate) mod hedge;
pub(crate) mod pass;
mod question;
pub(crate) mod record;
pub(crate) mod relay;
pub(crate) mod reply;
pub(crate) mod retry;
pub(crate) mod tunnel;
pub(crate) mod unavailable;
