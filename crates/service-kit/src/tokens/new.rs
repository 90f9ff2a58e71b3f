//! Making tokens.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    Scope,
    file::{is_token_name, sha256},
};

/// What a bearer token starts with, so that scanners of published code recognise one.
const PREFIX: &str = "muster_";

/// A token that was just made: one half for the client, the other one for the file.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// For the client: a bearer token, or `NAME:KEY` to sign with. Shown once and kept nowhere.
    pub secret: String,
    /// For the tokens file.
    pub line: String,
}

/// 256 random bits that were just made, and what to keep of them.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// For the client. Shown once and kept nowhere.
    pub secret: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

// === impl NewSecret ===

impl NewSecret {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn random() -> Result<Self, String> {
        let secret = format!("{PREFIX}{}", random_key()?);
        let sha256 = hex::encode(sha256(secret.as_bytes()));
        Ok(Self { secret, sha256 })
    }
}

impl fmt::Debug for NewSecret {
    /// What is kept of it alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

fn random_key() -> Result<String, String> {
    let mut bits = [0; 32];
    SystemRandom::new().fill(&mut bits).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(hex::encode(bits))
}

// === impl NewToken ===

impl NewToken {
    /// 256 random bits for `name`; `is_signing`: for a client that signs.
    ///
    /// # Errors
    /// The name cannot stand in the file, there is no scope, or the system gives no random numbers.
    pub fn random(name: &str, scopes: &[Scope], is_signing: bool) -> Result<Self, String> {
        if !is_token_name(name) {
            return Err(format!("{name:?} is no name for a token: it is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"));
        }
        if scopes.is_empty() {
            return Err("a token without a scope may do nothing; give --scope SERVICE:ACTION".to_owned());
        }
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        let scopes = scopes.join(",");
        if is_signing {
            let key = random_key()?;
            return Ok(Self { secret: format!("{name}:{key}"), line: format!("{name} hmac-sha256:{key} {scopes}") });
        }
        let NewSecret { secret, sha256 } = NewSecret::random()?;
        Ok(Self { secret, line: format!("{name} sha256:{sha256} {scopes}") })
    }
}

impl fmt::Debug for NewToken {
    /// Nothing: the line of a token that signs has its key, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Action, file::TokenFile};

    #[test]
    fn what_is_made_is_understood_and_is_never_the_same_twice() {
        let scopes = ["mail:register".parse().unwrap()];
        let one = NewToken::random("ci", &scopes, false).unwrap();
        let other = NewToken::random("ci-2", &scopes, false).unwrap();
        assert_ne!(one.secret, other.secret);
        assert!(!one.line.contains(&one.secret["muster_".len()..]), "the file does not hold the token");
        let file = TokenFile::parse(format!("{}\n{}\n", one.line, other.line).as_bytes()).unwrap();
        assert!(file.bearer(&one.secret).unwrap().allows("mail", Action::Register));
        let signing = NewToken::random("shop", &scopes, true).unwrap();
        assert!(TokenFile::parse(signing.line.as_bytes()).unwrap().signing("shop").is_some());
    }

    #[test]
    fn no_secret_is_in_what_is_logged() {
        let secret = NewSecret::random().unwrap();
        assert!(!format!("{secret:?}").contains(&secret.secret));
        for is_signing in [true, false] {
            let token = NewToken::random("ci", &["*:*".parse().unwrap()], is_signing).unwrap();
            assert_eq!(format!("{token:?}"), "NewToken { .. }");
        }
    }

    #[test]
    fn a_bad_name_or_no_scope_is_refused() {
        assert!(NewToken::random("a b", &["*:*".parse().unwrap()], false).is_err());
        assert!(NewToken::random("a", &[], false).is_err());
    }
}
