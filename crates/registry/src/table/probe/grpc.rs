//! The health protocol of gRPC (<https://grpc.io/docs/guides/health-checking/>): SERVING is good, all else is bad.

use std::time::Duration;

use service_kit::{chain, duration};
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::clients::Clients;
use crate::table::check::GrpcProbe;

/// What a server says is a status and nothing more.
const ANSWER_MAX_BYTES: usize = 16 * 1024;

pub(super) async fn ask(clients: &Clients, probe: &GrpcProbe, limit: Duration) -> Result<(), String> {
    let address = &probe.address;
    let answered = timeout(limit, exchange(clients, probe)).await;
    answered.unwrap_or_else(|_| Err(format!("{address} did not answer within {}", duration::format(limit))))
}

async fn exchange(clients: &Clients, probe: &GrpcProbe) -> Result<(), String> {
    let GrpcProbe { address, tls, service } = probe;
    let connector = clients.grpc(tls.as_ref()).await.map_err(|error| error.to_string())?;
    // The connector speaks TLS; what it gives is plain for the channel.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| format!("{address} cannot be connected to: {}", chain(&error)))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES);
    let asked = match service.as_str() {
        "" => "the server".to_owned(),
        service => service.to_owned(),
    };
    match client.check(HealthCheckRequest { service: service.clone() }).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            status => Err(format!("{address} says that {asked} is {}", status.as_str_name())),
        },
        Err(status) if status.code() == Code::NotFound => Err(format!("{address} knows no service {asked}")),
        Err(status) => Err(format!("{address} answered {:?}: {}", status.code(), status.message())),
    }
}
