//! Who may use a service, and how much: what stands between routing and pick.
//!
//! A service that asks nothing has no [`Access`](rules::Access), and its requests pay one test for it. For the others
//! the order is fixed: where the client is, what it shows, what follows from who it is. What can be judged at once is;
//! the rest is a question that the request waits for. A judgement is a plain value, so that one line of
//! `proxy/admission.rs` asks for it and one file there (`proxy/checked.rs`) carries it out.
//!
//! Nothing is open by mistake: what cannot be read, is there twice or cannot be asked lets no request through. What is
//! known of the client goes on in fields that no client can send itself ([`identity`]).
//!
//! | file | what it settles |
//! |---|---|
//! | [`rules`] | what a service asks for, made ready for requests |
//! | [`auth_rules`], [`passed`] | each way in, any or all of them; a request that is let through, or will be when a question is answered |
//! | [`asked`] | what a request shows |
//! | [`identity`] | who the client is, and how the instance learns it |
//! | [`keys`] | API keys |
//! | [`basic`], [`hashing`], [`verdicts`] | names and passwords; slow hashes beside the requests, and what they said |
//! | [`issued`], [`jwt`], [`key_fetcher`] | tokens of an issuer; their form and signatures; reading the issuers' keys |
//! | [`public_paths`] | paths that need nothing, and why no other spelling passes for one |
//! | [`limits`], [`rate_limiter`], [`in_flight`] | how much one client may have; how often, in bounded memory; how much at the same time |
//! | [`refusals`] | 401 and 403, with their challenges (RFC 6750) |

pub(crate) mod asked;
mod auth_rules;
pub(crate) mod basic;
pub(crate) mod hashing;
pub(crate) mod identity;
mod in_flight;
pub(crate) mod issued;
pub(crate) mod jwt;
pub(crate) mod key_fetcher;
pub(crate) mod keys;
mod limits;
pub(crate) mod passed;
pub(crate) mod public_paths;
mod rate_limiter;
pub(crate) mod refusals;
pub(crate) mod rules;
pub(crate) mod verdicts;
