use super::*;

const AFTER: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(5);

fn minimum(all: &[(&str, usize)]) -> BTreeMap<ServiceName, usize> {
    all.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
}

/// Instances of each service, of which none is degraded.
fn readings(all: &[(&str, usize)]) -> BTreeMap<ServiceName, Reading> {
    let reading = |in_rotation| Reading { in_rotation, degraded: 0 };
    all.iter().map(|(name, count)| (name.parse().unwrap(), reading(*count))).collect()
}

fn down_detector(needed: &[(&str, usize)]) -> DownDetector {
    DownDetector::new(Rules { minimum: minimum(needed), after: AFTER, window: WINDOW })
}

/// Looks every second for `secs`, with `all` there; the messages, told at once.
fn pass(list: &mut DownDetector, now: &mut Instant, secs: u64, all: &[(&str, usize)]) -> Vec<String> {
    pass_reading(list, now, secs, &readings(all))
}

fn pass_reading(
    list: &mut DownDetector,
    now: &mut Instant,
    secs: u64,
    all: &BTreeMap<ServiceName, Reading>,
) -> Vec<String> {
    let mut messages = Vec::new();
    for _ in 0..secs {
        *now += Duration::from_secs(1);
        list.observe(all, *now);
        if let Some(message) = list.due(*now) {
            list.sent(&message);
            messages.push(message.subject());
        }
    }
    messages
}

#[test]
fn the_loss_of_the_last_instance_and_the_recovery_are_told_once_each() {
    let mut list = down_detector(&[]);
    let mut now = Instant::now();
    assert!(pass(&mut list, &mut now, 60, &[("mail", 1)]).is_empty());
    assert_eq!(pass(&mut list, &mut now, 60, &[]), ["mail is down"]);
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1)]), ["mail is back"]);
}

#[test]
fn the_second_half_of_an_outage_is_told_and_so_is_each_half_of_the_return() {
    let mut list = down_detector(&[("mail", 2)]);
    let mut now = Instant::now();
    assert!(pass(&mut list, &mut now, 60, &[("mail", 2)]).is_empty());
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1)]), ["mail has 1 of 2 instances"]);
    assert_eq!(pass(&mut list, &mut now, 60, &[]), ["mail is down"], "although the first alert is still open");
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1)]), ["mail has 1 of 2 instances"]);
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 2)]), ["mail is back"]);
}

#[test]
fn a_service_that_flaps_between_few_and_none_has_too_few() {
    let mut list = down_detector(&[("mail", 2)]);
    let mut now = Instant::now();
    assert!(pass(&mut list, &mut now, 5, &[("mail", 2)]).is_empty());
    let mut told = Vec::new();
    for _ in 0..10 {
        told.extend(pass(&mut list, &mut now, 5, &[("mail", 1)]));
        told.extend(pass(&mut list, &mut now, 5, &[]));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(list.believed().values().eq([&Level::BelowMinimum]));
}

#[test]
fn a_degraded_instance_is_told_and_a_loss_counts_for_more() {
    let mut list = down_detector(&[]);
    let mut now = Instant::now();
    let degraded: BTreeMap<_, _> =
        [("mail".parse().unwrap(), Reading { in_rotation: 2, degraded: 1 })].into_iter().collect();
    assert_eq!(pass_reading(&mut list, &mut now, 60, &degraded), ["mail is degraded"]);
    assert_eq!(pass(&mut list, &mut now, 60, &[]), ["mail is down"]);
    assert_eq!(pass_reading(&mut list, &mut now, 60, &degraded), ["mail is degraded"]);
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 2)]), ["mail is no longer degraded"]);
}

#[test]
fn a_restart_is_no_news_and_flapping_is_told_once() {
    let mut list = down_detector(&[]);
    let mut now = Instant::now();
    let up: &[(&str, usize)] = &[("mail", 1)];
    assert!(pass(&mut list, &mut now, 5, up).is_empty());
    assert!(pass(&mut list, &mut now, 9, &[]).is_empty());
    assert!(pass(&mut list, &mut now, 30, up).is_empty());
    assert_eq!(pass(&mut list, &mut now, 20, &[]), ["mail is down"]);
    for _ in 0..10 {
        assert!(pass(&mut list, &mut now, 5, up).is_empty());
        assert!(pass(&mut list, &mut now, 5, &[]).is_empty());
    }
}

#[test]
fn fewer_than_the_minimum_is_told_and_a_service_that_never_came_is_too() {
    let mut list = down_detector(&[("mail", 2), ("shop", 1)]);
    let mut now = Instant::now();
    let told = pass(&mut list, &mut now, 60, &[("mail", 1), ("web", 1)]);
    assert_eq!(told, ["mail has 1 of 2 instances, shop is down"]);
}

#[test]
fn a_storm_is_one_message() {
    let mut list = down_detector(&[]);
    let mut now = Instant::now();
    let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
    let all: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    assert!(pass(&mut list, &mut now, 5, &all).is_empty());
    let mut told = pass(&mut list, &mut now, 3, &all[25..]);
    told.extend(pass(&mut list, &mut now, 60, &[]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("50 services are in trouble"), "{told:?}");
}

#[test]
fn who_takes_over_tells_nothing_twice_and_does_not_forget_the_recovery() {
    let mut list = down_detector(&[]);
    let mut now = Instant::now();
    assert!(pass(&mut list, &mut now, 5, &[("mail", 1)]).is_empty());
    list.observe(&readings(&[]), now);
    let told = ["mail", "old"].map(|name| (name.parse().unwrap(), Level::Down));
    list.take_over(&told.into(), now);
    assert!(pass(&mut list, &mut now, 60, &[]).is_empty());
    assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1), ("old", 1)]), ["mail is back, old is back"]);
}

#[test]
fn what_could_not_be_sent_is_due_again() {
    let mut list = down_detector(&[("mail", 1)]);
    let now = Instant::now();
    list.observe(&readings(&[]), now);
    assert!(list.due(now + AFTER).is_none(), "the window opens");
    assert!(list.due(now + AFTER + WINDOW).is_some() && list.due(now + AFTER + WINDOW).is_some());
}
