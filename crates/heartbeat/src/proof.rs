use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Router,
    extract::RawQuery,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use discovery::{InstanceKey, proof};

/// Shows to registries that ask for a proof of address that this instance listens where it says; see
/// [`discovery::proof`].
///
/// Give a clone to [`Details`](crate::Details) and merge the [`routes`](AddressProof::routes) into what the service
/// serves, outside of whatever asks for tokens. A registry that does not ask needs neither.
#[derive(Debug, Clone, Default)]
pub struct AddressProof(Arc<RwLock<Option<InstanceKey>>>);

// === impl AddressProof ===

impl AddressProof {
    /// `GET /.well-known/muster?nonce=…`: 200 with the answer, 400 for what is no nonce, 503 before the first
    /// heartbeat.
    pub fn routes(&self) -> Router {
        let this = self.clone();
        Router::new().route(proof::PATH, get(move |query: RawQuery| std::future::ready(this.respond(query))))
    }

    /// From now on this is `key`; before any registry is told so.
    pub(crate) fn announce(&self, key: InstanceKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    fn respond(&self, RawQuery(query): RawQuery) -> Response {
        let query = query.unwrap_or_default();
        let nonce = query.strip_prefix(proof::NONCE).and_then(|rest| rest.strip_prefix('='));
        let Some(nonce) = nonce.filter(|nonce| proof::is_nonce(nonce)) else {
            return (StatusCode::BAD_REQUEST, "a nonce of 16 to 64 hexadecimal digits is missing").into_response();
        };
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => (StatusCode::SERVICE_UNAVAILABLE, "nothing has been announced yet").into_response(),
            Some(key) => {
                let fresh = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                (fresh, proof::answer(nonce, key)).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(proof: &AddressProof, query: &str) -> u16 {
        proof.respond(RawQuery(Some(query.to_owned()))).status().as_u16()
    }

    #[test]
    fn only_a_nonce_is_answered_and_only_by_who_has_announced_something() {
        let proof = AddressProof::default();
        let nonce = "nonce=00112233445566778899";
        assert_eq!(status(&proof, nonce), 503);
        proof.announce("service/mail/a".parse().unwrap());
        assert_eq!(status(&proof, nonce), 200);
        for bad in ["", "nonce=", "nonce=1", "nonce=%3Cb%3E0011223344556677", "x=1&nonce=00112233445566778899"] {
            assert_eq!(status(&proof, bad), 400, "{bad}");
        }
    }
}
