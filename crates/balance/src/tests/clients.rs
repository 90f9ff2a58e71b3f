//! Clients that leave, and clients that stop.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use discovery::policy::Policy;

use super::{
    frames::{Frame, Stream},
    harness::{Harness, run},
};
use crate::{config::GatewayOptions, counters::BrokenKind};

/// An instance that answers nothing by itself; its streams are in the list.
fn holding(harness: &Harness) -> Rc<RefCell<Vec<Stream>>> {
    let held: Rc<RefCell<Vec<Stream>>> = Rc::default();
    let all = Rc::clone(&held);
    harness.instance(0, move |stream| {
        all.borrow_mut().push(stream);
        std::future::ready(())
    });
    held
}

#[test]
fn a_client_that_resets_its_stream_ends_that_exchange_at_the_instance_and_no_other() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        let held = holding(&harness);
        let leaver = harness.send("GET");
        harness.wait_for("the first at the instance", |_| held.borrow().len() == 1).await;
        let stayer = harness.send("GET");
        harness.wait_for("both at the instance", |_| held.borrow().len() == 2).await;
        leaver.send(Frame::Reset);
        let mut streams = held.take().into_iter();
        let (left, kept) = (streams.next().unwrap(), streams.next().unwrap());
        left.is_reset().await;
        harness.wait_for("one request less under way", |harness| harness.in_flight() == 1).await;
        kept.answer(200, b"stayed").await;
        assert_eq!(stayer.message().await.unwrap().text(), "stayed");
        assert_eq!((harness.totals().ejections, harness.totals().failures), (0, [0; 4]), "nothing speaks against it");
    });
}

#[test]
fn a_client_that_leaves_in_mid_response_is_nothing_against_the_instance() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        let was_reset = Rc::new(Cell::new(0));
        let resets = Rc::clone(&was_reset);
        harness.instance(0, move |stream| {
            let resets = Rc::clone(&resets);
            async move {
                stream.message().await;
                stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
                stream.send(Frame::Data(b"endless".to_vec()));
                stream.is_reset().await;
                resets.set(resets.get() + 1);
            }
        });
        for left in 1..=4 {
            let stream = harness.send("GET");
            assert!(matches!(stream.frame().await, Ok(Frame::Head(_))));
            stream.send(Frame::Reset);
            harness.wait_for("the reset at the instance", |_| was_reset.get() == left).await;
        }
        harness.wait_for("no request under way", |harness| harness.in_flight() == 0).await;
        let totals = harness.totals();
        assert_eq!((totals.ejections, totals.broken), (0, [0; BrokenKind::ALL.len()]));
    });
}

#[test]
fn a_client_whose_connection_dies_ends_all_its_exchanges() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        let held = holding(&harness);
        let _asked = [harness.send("GET"), harness.send("POST"), harness.send("PUT")];
        harness.wait_for("all at the instance", |_| held.borrow().len() == 3).await;
        harness.client.close();
        for stream in held.take() {
            stream.is_reset().await;
        }
        harness.wait_for("no request under way", |harness| harness.in_flight() == 0).await;
    });
}

#[test]
fn a_client_that_stops_in_its_body_gets_408_and_its_instance_a_reset() {
    run(async {
        let mut options = GatewayOptions::default();
        options.timeouts.body_idle_timeout = Duration::from_millis(200);
        let harness = Harness::with_options(1, Policy::default(), options);
        let held = holding(&harness);
        let stream = harness.begin("POST", "Content-Length: 10\r\n");
        stream.send(Frame::Data(b"half".to_vec()));
        let answer = stream.message().await.unwrap();
        assert_eq!((answer.status(), answer.code()), (408, "body_timeout".to_owned()));
        assert!(!answer.head.contains("Connection"), "the stream ends, and the connection goes on: {}", answer.head);
        held.take().remove(0).is_reset().await;
        assert_eq!(harness.totals().failures, [0; 4]);
    });
}

#[test]
fn a_client_that_takes_nothing_stops_its_instance_and_no_other_stream() {
    run(async {
        let mut policy = Policy::default();
        policy.timeouts.stream_idle = Duration::from_millis(300);
        let harness = Harness::new(1, policy);
        harness.instance(0, async |stream| {
            stream.message().await;
            stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
            for _ in 0..1000 {
                stream.send(Frame::Data(vec![7; 1024]));
            }
            stream.send(Frame::End);
        });
        let (idle, reader) = (harness.send("GET"), harness.send("GET"));
        assert_eq!(reader.message().await.unwrap().body.len(), 1_024_000);
        harness
            .wait_for("the end of the one that takes nothing", |harness| {
                harness.totals().broken[BrokenKind::SlowClient as usize] == 1
            })
            .await;
        assert_eq!(idle.message().await, None, "it is broken off");
    });
}
