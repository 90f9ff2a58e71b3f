//! Places at an instance, and the queue for them.

use std::{cell::RefCell, rc::Rc, time::Duration};

use discovery::policy::{Breaker, Policy};

use super::{
    frames::Stream,
    harness::{Harness, run},
};

/// One instance that carries out one request at a time, when it is asked to; its streams are in the list.
fn with_one_place(queue_max: u32, queue_timeout: Duration) -> (Harness, Rc<RefCell<Vec<Stream>>>) {
    let breaker = Breaker { in_flight_max: 1, queue_max, queue_timeout, ..Breaker::default() };
    let harness = Harness::new(1, Policy { breaker, ..Policy::default() });
    let held: Rc<RefCell<Vec<Stream>>> = Rc::default();
    let all = Rc::clone(&held);
    harness.instance(0, move |stream| {
        all.borrow_mut().push(stream);
        std::future::ready(())
    });
    (harness, held)
}

#[test]
fn a_request_without_a_place_waits_for_one_and_gets_it() {
    run(async {
        let (harness, held) = with_one_place(10, Duration::from_secs(10));
        let first = harness.send("POST");
        harness.wait_for("the first at the instance", |_| held.borrow().len() == 1).await;
        let second = harness.send("POST");
        harness.wait_for("the second in the queue", |harness| harness.gateway.queues.waiting("mail") == 1).await;
        assert_eq!((held.borrow().len(), harness.in_flight()), (1, 1));
        held.take().remove(0).answer(200, b"first").await;
        assert_eq!(first.message().await.unwrap().text(), "first");
        harness.wait_for("the second at the instance", |_| held.borrow().len() == 1).await;
        held.take().remove(0).answer(200, b"second").await;
        assert_eq!(second.message().await.unwrap().text(), "second");
        harness.wait_for("no request under way", |harness| harness.in_flight() == 0).await;
    });
}

#[test]
fn a_full_queue_is_a_503_at_once() {
    run(async {
        let (harness, held) = with_one_place(1, Duration::from_secs(10));
        let _first = harness.send("POST");
        harness.wait_for("the first at the instance", |_| held.borrow().len() == 1).await;
        let _second = harness.send("POST");
        harness.wait_for("the second in the queue", |harness| harness.gateway.queues.waiting("mail") == 1).await;
        let third = harness.ask("POST").await;
        assert_eq!((third.status(), third.code()), (503, "overloaded".to_owned()));
    });
}

#[test]
fn a_wait_in_the_queue_ends_with_503() {
    run(async {
        let (harness, held) = with_one_place(1, Duration::from_millis(100));
        let _first = harness.send("POST");
        harness.wait_for("the first at the instance", |_| held.borrow().len() == 1).await;
        let second = harness.ask("POST").await;
        assert_eq!((second.status(), second.code()), (503, "overloaded".to_owned()));
        assert_eq!(held.borrow().len(), 1, "it was not sent");
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_to_the_next() {
    run(async {
        let (harness, held) = with_one_place(10, Duration::from_secs(10));
        let first = harness.send("POST");
        harness.wait_for("the first at the instance", |_| held.borrow().len() == 1).await;
        let second = harness.send("POST");
        harness.wait_for("the second in the queue", |harness| harness.gateway.queues.waiting("mail") == 1).await;
        first.send(super::frames::Frame::Reset);
        harness.wait_for("the second at the instance", |_| held.borrow().len() == 2).await;
        held.take().remove(1).answer(200, b"second").await;
        assert_eq!(second.message().await.unwrap().text(), "second");
    });
}
