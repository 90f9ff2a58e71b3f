//! Instances that die, are silent, slow or talk nonsense.

use std::{cell::Cell, rc::Rc, time::Duration};

use discovery::policy::{Hedge, Policy};

use super::{
    frames::Frame,
    harness::{ADDRESSES, Harness, run},
};
use crate::counters::{BrokenKind, FailureKind};

#[test]
fn an_instance_that_refuses_connections_is_ejected_and_its_requests_go_to_another() {
    run(async {
        let harness = Harness::new(2, Policy::default());
        harness.network.kill(ADDRESSES[0]);
        harness.instance(1, async |stream| stream.answer(200, b"one").await);
        for _ in 0..6 {
            let answer = harness.ask("POST").await;
            assert_eq!((answer.status(), answer.text()), (200, "one"));
        }
        // More than once only on a machine that is so slow that it comes back meanwhile.
        let totals = harness.totals();
        assert!(
            totals.ejections >= 1 && totals.ejections == totals.failures[FailureKind::Connect as usize],
            "{totals:?}"
        );
    });
}

#[test]
fn an_instance_that_takes_no_connection_costs_the_connect_timeout_and_no_request() {
    run(async {
        let mut policy = Policy::default();
        policy.timeouts.connect = Duration::from_millis(100);
        let harness = Harness::new(2, policy);
        harness.network.silence(ADDRESSES[0]);
        harness.instance(1, async |stream| stream.answer(200, b"").await);
        for _ in 0..4 {
            assert_eq!(harness.ask("POST").await.status(), 200);
        }
        assert!(harness.totals().failures[FailureKind::Connect as usize] >= 1);
    });
}

/// Two instances, of which the first dies of each request.
fn with_one_that_dies() -> Harness {
    let harness = Harness::new(2, Policy::default());
    let network = harness.network.clone();
    harness.instance(0, move |stream| {
        let network = network.clone();
        async move {
            stream.message().await;
            network.kill(ADDRESSES[0]);
            network.listen(ADDRESSES[0]);
        }
    });
    harness.instance(1, async |stream| stream.answer(200, b"one").await);
    harness
}

#[test]
fn an_instance_that_dies_of_a_request_fails_no_get() {
    run(async {
        let harness = with_one_that_dies();
        for _ in 0..4 {
            assert_eq!(harness.ask("GET").await.text(), "one");
        }
        assert!(harness.totals().retries >= 1);
    });
}

#[test]
fn a_post_that_was_sent_is_not_sent_again() {
    run(async {
        let harness = with_one_that_dies();
        let answers = [harness.ask("POST").await, harness.ask("POST").await];
        let mut statuses = answers.each_ref().map(|answer| answer.status());
        statuses.sort_unstable();
        assert_eq!((statuses, harness.totals().retries), ([200, 502], 0));
        assert!(answers.iter().any(|answer| answer.status() == 502 && answer.code() == "upstream_closed"));
    });
}

#[test]
fn an_instance_that_dies_in_mid_response_breaks_off_that_stream_only() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        let (network, is_first) = (harness.network.clone(), Rc::new(Cell::new(true)));
        harness.instance(0, move |stream| {
            let (network, is_first) = (network.clone(), Rc::clone(&is_first));
            async move {
                if !is_first.replace(false) {
                    return stream.answer(200, b"whole").await;
                }
                stream.message().await;
                stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_vec()));
                stream.send(Frame::Data(b"half".to_vec()));
                // The gateway has read it when it closes the connection.
                while stream.has_unread() {
                    tokio::task::yield_now().await;
                }
                network.kill(ADDRESSES[0]);
                network.listen(ADDRESSES[0]);
            }
        });
        let broken = harness.send("GET");
        assert_eq!(broken.message().await, None, "it must not look whole");
        assert_eq!(harness.totals().broken[BrokenKind::Closed as usize], 1);
        assert_eq!(harness.ask("GET").await.text(), "whole");
    });
}

#[test]
fn an_instance_that_never_answers_is_a_504_at_the_deadline_and_hears_that_it_is_over() {
    run(async {
        let mut policy = Policy::default();
        policy.timeouts.response = Duration::from_millis(300);
        let (harness, was_reset) = (Harness::new(1, policy), Rc::new(Cell::new(false)));
        let reset = Rc::clone(&was_reset);
        harness.instance(0, move |stream| {
            let reset = Rc::clone(&reset);
            async move {
                stream.is_reset().await;
                reset.set(true);
            }
        });
        let answer = harness.ask("POST").await;
        assert_eq!((answer.status(), answer.code()), (504, "upstream_timeout".to_owned()));
        harness.wait_for("the reset of the stream", |_| was_reset.get()).await;
        assert_eq!((harness.in_flight(), harness.totals().failures[FailureKind::Timeout as usize]), (0, 1));
    });
}

#[test]
fn a_slow_instance_is_hedged_and_the_loser_is_reset_without_its_connection() {
    run(async {
        let policy = Policy { hedge: Some(Hedge { after: Duration::from_millis(100) }), ..Policy::default() };
        let (harness, resets) = (Harness::new(2, policy), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&resets);
        harness.instance(0, move |stream| {
            let counted = Rc::clone(&counted);
            async move {
                stream.is_reset().await;
                counted.set(counted.get() + 1);
            }
        });
        harness.instance(1, async |stream| stream.answer(200, b"one").await);
        for _ in 0..4 {
            assert_eq!(harness.ask("GET").await.text(), "one");
        }
        harness.wait_for("the end of the losers", |harness| resets.get() > 0 && harness.in_flight() == 0).await;
        assert_eq!(harness.totals().retries, resets.get(), "a hedge is paid for as a retry is");
        assert_eq!(harness.network.connections(ADDRESSES[0]), 1);
    });
}

#[test]
fn an_answer_that_is_no_response_is_a_502_and_is_not_passed_on() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        harness.instance(0, async |stream| {
            stream.message().await;
            stream.send(Frame::Head(b"220 ready\r\n\r\n".to_vec()));
        });
        let answer = harness.ask("POST").await;
        assert_eq!((answer.status(), answer.code()), (502, "upstream_malformed".to_owned()));
    });
}

#[test]
fn an_instance_that_answers_500_again_and_again_is_ejected() {
    run(async {
        let harness = Harness::new(2, Policy::default());
        harness.instance(0, async |stream| stream.answer(500, b"").await);
        harness.instance(1, async |stream| stream.answer(200, b"").await);
        while harness.totals().ejections == 0 {
            harness.ask("GET").await;
        }
        let failed = harness.totals().responses[4];
        assert_eq!(failed, u64::from(Policy::default().health.passive.consecutive_5xx));
        for _ in 0..4 {
            assert_eq!(harness.ask("GET").await.status(), 200);
        }
    });
}
