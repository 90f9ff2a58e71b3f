//! Bodies in frames: several at a time, of unknown length, larger than any buffer, sent again.

use std::{cell::RefCell, rc::Rc};

use discovery::policy::Policy;

use super::{
    frames::{Frame, Stream, WINDOW_BYTES},
    harness::{ADDRESSES, Harness, run},
};

#[test]
fn several_exchanges_share_one_connection_on_each_side_and_end_in_any_order() {
    run(async {
        const EXCHANGES: usize = 10;
        let harness = Harness::new(1, Policy::default());
        let waiting: Rc<RefCell<Vec<Stream>>> = Rc::default();
        let all = Rc::clone(&waiting);
        harness.instance(0, move |stream| {
            all.borrow_mut().push(stream);
            std::future::ready(())
        });
        let asked: Vec<Stream> = (0..EXCHANGES).map(|_| harness.send("GET")).collect();
        harness.wait_for("all of them at the instance", |_| waiting.borrow().len() == EXCHANGES).await;
        let mut last_first = waiting.take();
        last_first.reverse();
        for (n, stream) in last_first.iter().enumerate() {
            stream.answer(200, n.to_string().as_bytes()).await;
        }
        for (n, stream) in asked.iter().rev().enumerate() {
            assert_eq!(stream.message().await.unwrap().text(), n.to_string());
        }
        assert_eq!(harness.network.connections(ADDRESSES[0]), 1);
    });
}

#[test]
fn a_body_of_unknown_length_passes_both_ways_as_it_comes() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        // Says each piece back at once: a gateway that waits for the end would wait for ever.
        harness.instance(0, async |stream| {
            while let Ok(frame) = stream.frame().await {
                match frame {
                    Frame::Head(_) => stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())),
                    frame => stream.send(frame),
                }
            }
        });
        let stream = harness.begin("POST", "Transfer-Encoding: chunked\r\n");
        let Ok(Frame::Head(head)) = stream.frame().await else { panic!("no head") };
        let head = String::from_utf8(head).unwrap();
        assert!(!head.contains("Transfer-Encoding") && !head.contains("Connection"), "they are of HTTP/1.1: {head}");
        for piece in [&b"one"[..], b"two", b"three"] {
            stream.send(Frame::Data(piece.to_vec()));
            assert_eq!(stream.frame().await.unwrap(), Frame::Data(piece.to_vec()));
        }
        stream.send(Frame::End);
        assert_eq!(stream.frame().await.unwrap(), Frame::End);
    });
}

#[test]
fn a_body_larger_than_every_window_passes_both_ways() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        harness.instance(0, async |stream| {
            let request = stream.message().await.unwrap();
            stream
                .send(Frame::Head(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).into()));
            stream.send_body(&request.body).await;
        });
        let body: Vec<u8> = (0..20 * WINDOW_BYTES).map(|n| n as u8).collect();
        let stream = harness.begin("POST", &format!("Content-Length: {}\r\n", body.len()));
        stream.send_body(&body).await;
        assert!(stream.message().await.unwrap().body == body);
    });
}

#[test]
fn a_body_that_was_kept_is_sent_again_from_its_start() {
    run(async {
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
        harness.instance(1, async |stream| {
            let request = stream.message().await.unwrap();
            stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
            stream.send_body(&request.body).await;
        });
        for _ in 0..4 {
            let stream = harness.begin("PUT", "Transfer-Encoding: chunked\r\n");
            stream.send_body(b"kept").await;
            assert_eq!(stream.message().await.unwrap().text(), "kept");
        }
        assert!(harness.totals().retries >= 1);
    });
}

#[test]
fn interim_responses_arrive_before_the_final_one() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        harness.instance(0, async |stream| {
            stream.send(Frame::Head(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec()));
            stream.answer(200, b"final").await;
        });
        let stream = harness.begin("POST", "Expect: 100-continue\r\nContent-Length: 4\r\n");
        let mut heads = Vec::new();
        while heads.len() < 2 {
            let Ok(Frame::Head(head)) = stream.frame().await else { panic!("after {heads:?}") };
            heads.push(String::from_utf8(head).unwrap()["HTTP/1.1 ".len()..][..3].to_owned());
        }
        heads.sort();
        assert_eq!(heads, ["100", "103"]);
        stream.send_body(b"body").await;
        assert_eq!(stream.message().await.unwrap().text(), "final");
    });
}
