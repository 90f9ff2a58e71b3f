use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::atomic::AtomicBool,
    task::{Context, Poll, Wake, Waker},
};

use super::*;

fn connections(max: usize, per_client_max: usize) -> Connections {
    Connections::new(Bounds { max, per_client_max })
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// Places whose connections have begun; nothing is under way on them.
fn waiting(connections: &Connections, clients: impl IntoIterator<Item = (u8, u64)>) -> Vec<Place> {
    let places = clients.into_iter().map(|(last, now_ms)| connections.admit(ip(last), false, now_ms).unwrap());
    places.inspect(begun).collect()
}

fn begun(place: &Place) {
    assert!(poll(&mut pin!(place.hold(pin!(pending::<()>())))).is_pending());
}

fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_newcomer_gets_the_place_of_the_longest_waiting() {
    let connections = connections(3, 0);
    let places = waiting(&connections, [(1, 30), (2, 10), (3, 20)]);
    let newcomer = connections.admit(ip(4), false, 40).unwrap();
    assert!(places[1].is_evicted() && !places[0].is_evicted() && !places[2].is_evicted());
    assert_eq!(connections.total(), 3);
    drop(places);
    assert_eq!(connections.total(), 1, "a place is given back once");
    drop(newcomer);
    assert_eq!(connections.0.state().networks.len(), 0, "a client that is gone is forgotten");
}

#[test]
fn a_client_above_its_share_pushes_out_its_own() {
    let connections = connections(100, 2);
    let places = waiting(&connections, [(1, 0), (2, 10), (2, 20)]);
    let _newcomer = connections.admit(ip(2), false, 30).unwrap();
    assert!(places[1].is_evicted() && !places[0].is_evicted());
}

#[test]
fn a_request_under_way_keeps_its_place_and_a_client_with_nothing_else_is_refused() {
    let connections = connections(2, 1);
    let places = waiting(&connections, [(1, 0), (2, 0)]);
    places[0].begin();
    assert_eq!(connections.admit(ip(1), false, 1).unwrap_err(), Full::Client);
    places[1].begin();
    assert_eq!(connections.admit(ip(3), false, 1).unwrap_err(), Full::Total);
    places[0].wait(2);
    assert!(connections.admit(ip(3), false, 3).is_ok());
}

#[test]
fn an_exempt_client_has_no_share() {
    let connections = connections(10, 1);
    let exempt: Vec<_> = (0..3).map(|_| connections.admit(ip(1), true, 0).unwrap()).collect();
    assert_eq!(connections.total(), 3);
    assert!(exempt.iter().all(|place| !place.is_evicted()));
}

#[test]
fn thousands_of_newcomers_are_let_in_at_the_bound() {
    let connections = connections(2_000, 0);
    let old = waiting(&connections, (0..2_000).map(|n| (u8::try_from(n % 200).unwrap(), n)));
    let new = waiting(&connections, (0..3_000).map(|n| (u8::try_from(n % 50 + 200).unwrap(), 2_000 + n)));
    assert_eq!(connections.total(), 2_000);
    assert!(old.iter().filter(|place| !place.is_evicted()).count() >= 1_000, "200 clients held 10 each, 50 held 60");
    assert!(!new.last().unwrap().is_evicted());
}

#[test]
fn what_waits_is_dropped_when_its_place_is_needed_and_what_is_under_way_is_finished() {
    #[derive(Default)]
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let connections = connections(1, 0);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let old = connections.admit(ip(1), false, 0).unwrap();
    let mut work = pin!(pending::<()>());
    let mut conversation = pin!(old.hold(work.as_mut()));
    assert!(conversation.as_mut().poll(&mut cx).is_pending());
    let _new = connections.admit(ip(2), false, 1).unwrap();
    assert!(woken.0.load(Ordering::Relaxed));
    old.begin();
    assert!(conversation.as_mut().poll(&mut cx).is_pending(), "a request came just before");
    old.wait(2);
    assert_eq!(conversation.as_mut().poll(&mut cx), Poll::Ready(None));
}

#[tokio::test(start_paused = true)]
async fn room_comes_with_a_place_and_with_the_end_of_a_request() {
    let connections = connections(2, 0);
    let mut places = waiting(&connections, [(1, 0), (2, 0)]);
    places.iter().for_each(Place::begin);
    let now_ms = || 0;
    assert!(tokio::time::timeout(std::time::Duration::from_secs(5), connections.room(now_ms)).await.is_err());
    places[0].wait(1);
    connections.room(now_ms).await;
    places[0].begin();
    places.pop();
    connections.room(now_ms).await;
}

#[test]
fn without_a_file_the_longest_waiting_goes() {
    let connections = connections(10, 0);
    let places = waiting(&connections, [(1, 5), (2, 1)]);
    assert!(connections.evict_for_files(9) && places[1].is_evicted() && !places[0].is_evicted());
    places[0].begin();
    assert!(!connections.evict_for_files(9));
}

#[test]
fn a_connection_on_which_something_happens_while_it_is_chosen_costs_the_newcomer_nothing() {
    let many = u64::try_from(FEW).unwrap() * 4;
    let connections = connections(FEW * 4, 0);
    let places = waiting(&connections, (0..many).map(|n| (1, n)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Their responses end while the choice is made.
        threads.spawn(|| {
            for now_ms in (many..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                places.iter().for_each(|place| place.wait(now_ms));
            }
        });
        let newcomers = (0..500).map(|n| connections.admit(ip(2), false, many + n * CHOICE_MS));
        let newcomers: Vec<_> = newcomers.collect();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(newcomers.iter().filter(|newcomer| newcomer.is_err()).count(), 0, "refused, while the others wait");
    });
}
