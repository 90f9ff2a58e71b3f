use std::time::Instant;

use testkit::{
    name_server::{Manner, NameServer},
    wait::{SOON, wait_until},
};

use super::*;

async fn resolved(names: &Names, host: &str) -> Result<Vec<String>, String> {
    let name = names.follow(host);
    let answer = tokio::time::timeout(SOON, name.addresses()).await.expect("an answer soon");
    answer.map(|all| all.iter().map(ToString::to_string).collect()).map_err(|unresolved| unresolved.why().to_string())
}

#[tokio::test]
async fn a_dead_first_name_server_delays_an_answer_by_less_than_a_look_up() {
    let dead = NameServer::start().await;
    let well = NameServer::start().await;
    dead.set_manner(Manner::Silent);
    well.set("mail.test", &["10.0.0.1", "fd00::1"], 60);
    let names = Names::new(vec![dead.address(), well.address()]);
    assert_eq!(resolved(&names, "mail.test").await.unwrap(), ["10.0.0.1", "fd00::1"]);
    assert_eq!(dead.questions("mail.test"), 1, "the first is asked first, and once");
}

#[tokio::test]
async fn the_first_name_server_that_answers_is_believed_before_the_next() {
    let first = NameServer::start().await;
    let second = NameServer::start().await;
    first.set("mail.test", &["10.0.0.1"], 60);
    let names = Names::new(vec![first.address(), second.address()]);
    assert_eq!(resolved(&names, "mail.test").await.unwrap(), ["10.0.0.1"]);
    assert_eq!(resolved(&names, "web.test").await.unwrap_err(), "there is no such name");
    first.set_manner(Manner::Failing);
    second.set("db.test", &["10.0.0.2"], 60);
    assert_eq!(resolved(&names, "db.test").await.unwrap(), ["10.0.0.2"], "a failure is not a denial");
}

#[tokio::test]
async fn a_slow_name_server_is_still_the_one_to_say_that_there_is_a_name() {
    let slow = NameServer::start().await;
    let ignorant = NameServer::start().await;
    slow.set_manner(Manner::Slow(NEXT_AFTER_AND_MORE));
    slow.set("mail.test", &["10.0.0.1"], 60);
    let names = Names::new(vec![slow.address(), ignorant.address()]);
    assert_eq!(resolved(&names, "mail.test").await.unwrap(), ["10.0.0.1"]);
}

const NEXT_AFTER_AND_MORE: Duration = Duration::from_millis(900);

#[tokio::test]
async fn a_name_is_looked_up_once_at_a_time_and_again_when_its_answer_ends() {
    let server = NameServer::start().await;
    server.set("mail.test", &["10.0.0.1"], 3600);
    server.set("short.test", &["10.0.0.1"], 0);
    let names = Names::new(vec![server.address()]);
    let all: Vec<_> = (0..100).map(|_| names.follow("mail.test")).collect();
    let short = names.follow("short.test");
    for answer in futures::future::join_all(all.iter().map(|name| name.addresses())).await {
        assert_eq!(answer.unwrap().len(), 1);
    }
    server.set("short.test", &["10.0.0.2"], 0);
    wait_until("the new address", SOON, async || {
        short.answer().addresses[..] == ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]
    })
    .await;
    assert_eq!(server.questions("mail.test"), 1);
}

#[tokio::test]
async fn the_last_good_answer_stays_while_the_name_server_is_dead_and_trouble_ends_with_it() {
    let server = NameServer::start().await;
    server.set("mail.test", &["10.0.0.1"], 1);
    let names = Names::new(vec![server.address()]);
    let name = names.follow("mail.test");
    assert!(name.addresses().await.is_ok() && name.is_resolved());
    server.set_manner(Manner::Silent);
    wait_until("trouble", SOON, async || name.answer().trouble.is_some()).await;
    assert!(name.is_resolved() && names.state().stale == 1 && names.state().failed > 0, "{:?}", names.state());
    server.set_manner(Manner::Prompt);
    wait_until("the end of it", SOON, async || name.answer().trouble.is_none()).await;
    assert_eq!(names.state().stale, 0);
}

#[tokio::test]
async fn a_name_without_a_follower_is_looked_up_no_more() {
    let server = NameServer::start().await;
    server.set("mail.test", &["10.0.0.1"], 0);
    let names = Names::new(vec![server.address()]);
    assert!(names.follow("mail.test").addresses().await.is_ok());
    wait_until("it to be forgotten", SOON, async || names.0.lock().is_empty()).await;
}

#[tokio::test]
async fn localhost_is_known_without_a_name_server() {
    let silent = NameServer::start().await;
    silent.set_manner(Manner::Silent);
    let names = Names::new(vec![silent.address()]);
    let begun = Instant::now();
    for host in ["localhost", "mail.localhost"] {
        assert!(resolved(&names, host).await.unwrap().contains(&"127.0.0.1".to_owned()), "{host}");
        assert_eq!(silent.questions(host), 0, "after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn ipv4_addresses_do_not_wait_for_an_answer_about_ipv6_that_never_comes() {
    let server = NameServer::start().await;
    server.set_manner(Manner::SilentAboutIpv6);
    server.set("mail.test", &["10.0.0.1", "fd00::1"], 3600);
    let names = Names::new(vec![server.address()]);
    let name = names.follow("mail.test");
    // An answer that waits for both questions takes all the time that a name server has.
    let answer = tokio::time::timeout(server::ASKED_MAX / 2, name.addresses()).await.expect("an answer before");
    assert_eq!(answer.unwrap()[..], ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    server.set_manner(Manner::Prompt);
    let has_both = async || name.answer().addresses.len() == 2;
    wait_until("the other half, which is asked for again soon", SOON, has_both).await;
}

#[tokio::test]
async fn no_answer_about_one_family_is_no_denial_of_the_name() {
    let server = NameServer::start().await;
    server.set_manner(Manner::SilentAboutIpv4);
    server.set("four.test", &["10.0.0.1"], 60);
    let names = Names::new(vec![server.address()]);
    let why = resolved(&names, "four.test").await.unwrap_err();
    assert_eq!(why, "no name server answered within 2s");
    server.set_manner(Manner::SilentAboutIpv6);
    server.set("six.test", &["fd00::1"], 60);
    let why = resolved(&names, "six.test").await.unwrap_err();
    assert_eq!(why, "no name server answered within 2s");
}
