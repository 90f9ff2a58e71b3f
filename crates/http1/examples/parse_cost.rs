//! Measures what a head costs to parse, beside httparse: `cargo run --release -p http1 --example parse_cost`.
//!
//! Each row is one head as clients and servers send it. Both parsers take turns for many short rounds; the fastest
//! tenth counts, because a busy machine only ever adds. What httparse does is our "read"; it decides nothing about
//! framing, `Host` or `Connection`, ours does ("judge"). Ends by itself after some seconds.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    hint::black_box,
    mem::MaybeUninit,
    time::{Duration, Instant},
};

use http1::{Head, Limits, Method, Scan};
use httparse::ParserConfig;

const ROUNDS: usize = 1001;
/// So few that most rounds are over before the scheduler takes the core away.
const HEADS_A_ROUND: u32 = 200;

const CURL: &str = "GET /mail/inbox HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

const POST: &str = "POST /mail/messages HTTP/1.1\r\nHost: gateway.example:8080\r\nContent-Type: application/json\r\n\
    Content-Length: 1024\r\nConnection: keep-alive\r\nX-Request-ID: 018f3b0c-5f0e-7a51-9d6b-2f4f0c7b1a11\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

const BROWSER: &str = "GET /userlist/users?page=2&sort=name HTTP/1.1\r\nHost: gateway.example:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
    Cookie: session=018f3b0c5f0e7a519d6b2f4f0c7b1a11; theme=dark; consent=all-of-it-2026-11-21; seen=1,2,3,5,8,13\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\
    Sec-Fetch-User: ?1\r\nPriority: u=0, i\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 13:00:00 GMT\r\nServer: nginx\r\n\
    Content-Type: application/json\r\nContent-Length: 10240\r\nConnection: keep-alive\r\n\r\n";

/// The cost of one head in nanoseconds, as each parser has it.
struct Cost {
    read: f64,
    judge: f64,
    httparse: f64,
}

fn main() {
    println!("ns for one head, the fastest tenth of {ROUNDS} rounds of {HEADS_A_ROUND} heads\n");
    println!("| head | bytes | fields | read | judge | both | httparse | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, head) in [("curl GET", CURL), ("JSON POST", POST), ("browser GET", BROWSER)] {
        row(name, head, &cost(head, our_request, their_request));
    }
    row("200 OK", OK, &cost(OK, our_response, their_response));
}

fn row(name: &str, head: &str, cost: &Cost) {
    let Cost { read, judge, httparse } = cost;
    let bytes = head.len();
    let fields = head.matches("\r\n").count() - 2;
    let both = read + judge;
    let ratio = both / httparse;
    println!("| {name} | {bytes} | {fields} | {read:.0} | {judge:.0} | {both:.0} | {httparse:.0} | {ratio:.2} |");
}

/// Lets all three take turns, so that a busy moment of the machine hits none of them alone.
fn cost(head: &str, ours: fn(Head<'_>), theirs: fn(&[u8])) -> Cost {
    let mut scan = Scan::default();
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rounds[0].push(time(|| {
            scan.clear();
            scan.read(black_box(head.as_bytes()), &Limits::default())
        }));
        let read = scan.head(head.as_bytes()).expect("it is complete");
        rounds[1].push(time(|| ours(black_box(read))));
        rounds[2].push(time(|| theirs(black_box(head.as_bytes()))));
    }
    let [read, judge, httparse] = rounds.map(fast);
    Cost { read, judge, httparse }
}

/// A round.
fn time<T>(mut one: impl FnMut() -> T) -> Duration {
    let begun = Instant::now();
    for _ in 0..HEADS_A_ROUND {
        black_box(one());
    }
    begun.elapsed()
}

/// Nanoseconds for one head.
fn fast(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 10].as_secs_f64() * 1e9 / f64::from(HEADS_A_ROUND)
}

fn our_request(head: Head<'_>) {
    assert!(black_box(head.request(&Limits::default())).is_ok());
}

fn our_response(head: Head<'_>) {
    assert!(black_box(head.response(&Limits::default(), &Method::Get)).is_ok());
}

fn their_request(head: &[u8]) {
    let mut headers = [const { MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    assert!(black_box(request.parse_with_uninit_headers(head, &mut headers)).is_ok());
}

fn their_response(head: &[u8]) {
    let mut headers = [const { MaybeUninit::uninit() }; 100];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    assert!(black_box(config.parse_response_with_uninit_headers(&mut response, head, &mut headers)).is_ok());
}
