//! Tokens that an issuer has signed (JSON Web Tokens; RFC 7519, with the advice of RFC 8725).
//!
//! *The algorithm belongs to the key and never to the token.* What a token names is compared with what the key is for,
//! so that `none`, and HMAC with a public RSA key for a secret, are no more than a wrong name. A key is only ever one
//! of the set that the policy names: a token that brings its own (`jwk`, `jku`, `x5u`, `x5c`) is refused, and so is one
//! that asks for what is not known here (`crit`), has a member twice, or is larger than
//! [`TOKEN_MAX_BYTES`](token::TOKEN_MAX_BYTES).
//!
//! | file | what it settles |
//! |---|---|
//! | [`token`] | three parts, two JSON objects, a signature |
//! | [`json`] | JSON without a member that is there twice |
//! | [`key`] | a JSON Web Key (RFC 7517), its one algorithm, and whether a signature is its |
//! | [`key_set`] | the keys of a policy, from a file or a URL, and when they are read again |
//! | [`claims`] | whether what a token says holds now and here, and who its subject is |
//! | [`verified`] | tokens that were good a moment ago |

pub(crate) mod claims;
pub(crate) mod json;
pub(crate) mod key;
pub(crate) mod key_set;
pub(crate) mod token;
pub(crate) mod verified;
