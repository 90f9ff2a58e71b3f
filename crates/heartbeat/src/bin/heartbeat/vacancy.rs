//! Waiting until the port is free, before the program is started.
//!
//! Something that is started again and again on a port that another copy of it has would fail each time, and each time
//! end what it has announced. Instead its sidecar waits, and is there when the other copy ends.

use std::time::Duration;

use service_kit::port_holder::is_in_the_way;
use tokio::time::sleep;

use crate::{config::Target, owner, reach, sockets};

/// The first look after one that found the port taken comes so soon, each further one after twice the time.
const LOOK_FIRST: Duration = Duration::from_millis(100);
/// The longest time between two looks: who waits to take over is not to miss more than that.
const LOOK_LAST: Duration = Duration::from_secs(2);

/// Returns when `target` can be listened on. Says once what is in the way, and again when that is something else.
pub(crate) async fn wait(target: &Target) {
    let mut said = None;
    let mut pause = LOOK_FIRST;
    while let Some(holder) = holder(target).await {
        if said.as_ref() != Some(&holder) {
            let port = target.port.get();
            tracing::warn!(
                port,
                "the port is taken: {holder} listens there. The program is started, and announced, when it is free. If both \
                 are meant to share it, give --listeners shared; if the program is to have another address of this \
                 machine, say which with --host"
            );
            said = Some(holder);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_LAST);
    }
    if said.is_some() {
        tracing::info!(port = target.port.get(), "the port is free now");
    }
}

/// What listens where the program wants to.
async fn holder(target: &Target) -> Option<String> {
    if let (Some(wanted), Some(all)) = (target.wanted(), sockets::listening(target.port.get())) {
        // A socket that was handed to us, by systemd say, is there for the program.
        let ours = sockets::of_this_process();
        let mut in_the_way = all.iter().filter(|socket| is_in_the_way(socket.address, wanted));
        let taken = in_the_way.find(|socket| ours.any_of(&[**socket]).is_none())?;
        return Some(format!("{} at {}", owner::holder(taken.inode), taken.address));
    }
    for address in target.local() {
        if reach::connect(&address).await.is_ok() {
            return Some(format!("something at {address}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: Option<&str>, port: u16) -> Target {
        let host = host.map(|host| host.parse().unwrap());
        Target { service: "web".parse().unwrap(), host, port: port.try_into().unwrap() }
    }

    #[tokio::test]
    async fn a_socket_that_was_handed_to_us_is_not_in_the_way() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let expected = if cfg!(target_os = "linux") { None } else { Some(format!("something at 127.0.0.1:{port}")) };
        assert_eq!(holder(&target(Some("127.0.0.1"), port)).await, expected);
        let by_name = holder(&target(Some("localhost"), port)).await;
        assert_eq!(by_name, Some(format!("something at localhost:{port}")), "whose it is, is not asked for a name");
    }
}
