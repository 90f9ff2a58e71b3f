//! What every store promises, whatever keeps the users: each case runs on SQLite and on MariaDB.

use std::collections::BTreeSet;

use clap::Parser as _;
use prometheus_client::registry::Registry;
use testkit::{
    database::Database,
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use userlist::{
    config::Config,
    store::{Condition, Filter, Key, Page, Put, Sort, Store, StoreError},
    user::{NewUser, User, UserName},
};

/// An open store; dropped, it is closed.
pub(crate) struct Open {
    pub(crate) store: Store,
    _close: DropGuard,
}

/// A store that is opened in the background.
pub(crate) fn launch(url: &str) -> Open {
    let config =
        Config::try_parse_from(["userlist", "--database-url", url, "--database-deadline", "10s"]).unwrap().database;
    let (store, monitor) = Store::new(&config.kind().unwrap(), config.limits(), &mut Registry::default());
    let close = CancellationToken::new();
    tokio::spawn(monitor.run(close.clone()));
    Open { store, _close: close.drop_guard() }
}

pub(crate) async fn open(url: &str) -> Open {
    let open = launch(url);
    wait_until("the store opens", SOON, || async { open.store.outage().is_none() }).await;
    open
}

fn name(name: &str) -> UserName {
    name.parse().unwrap()
}

pub(crate) fn user(name: &str, email: &str) -> NewUser {
    NewUser::new(name.parse().unwrap(), email.parse().unwrap())
}

pub(crate) async fn upsert(store: &Store, user: &NewUser) -> Result<(User, Put), StoreError> {
    store.put(user, &Condition::Always).await
}

async fn get(store: &Store, name: &UserName) -> Result<User, StoreError> {
    store.get(&Key::Name(name.clone())).await
}

async fn delete(store: &Store, name: &UserName) -> Result<(), StoreError> {
    store.delete(&Key::Name(name.clone()), &Condition::Always).await
}

/// From the start, or after this user.
async fn list(store: &Store, after: Option<&User>, rows: u32) -> Vec<User> {
    let sort = Sort::default();
    let page = Page { filter: Filter::default(), sort, after: after.map(|user| sort.position(user)), rows };
    store.list(&page).await.unwrap()
}

macro_rules! contract {
    ($($promise:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    let folder = tempfile::tempdir().unwrap();
                    let open = super::open(&format!("sqlite:{}/users.db", folder.path().display())).await;
                    super::$promise(&open.store).await;
                }
            )*
        }

        /// One server for all of them; each has a database of its own.
        #[tokio::test(flavor = "multi_thread")]
        async fn every_promise_is_kept_on_mariadb() {
            let database = Database::start().await;
            // The server's defaults, and what an administrator may have made of them.
            database.sql("SET GLOBAL sql_mode = '', GLOBAL autocommit = 0, GLOBAL innodb_lock_wait_timeout = 50");
            $(
                println!("{}", stringify!($promise));
                let opened = open(&database.create(stringify!($promise))).await;
                $promise(&opened.store).await;
            )*
        }
    };
}

contract! {
    put_creates_then_changes_and_keeps_the_id,
    create_never_changes_anybody,
    an_absent_user_is_neither_found_nor_deleted,
    ids_are_never_given_twice,
    names_that_look_alike_are_different_users,
    the_longest_values_are_kept_whole,
    text_that_looks_like_sql_is_text,
    a_list_is_in_the_order_of_ids_and_pages_without_gaps,
    concurrent_puts_of_one_name_make_one_user,
    concurrent_creates_of_one_name_have_one_winner,
    concurrent_puts_and_deletes_never_fail,
    what_was_stored_is_there_for_other_instances,
}

async fn put_creates_then_changes_and_keeps_the_id(store: &Store) {
    let (created, put) = upsert(store, &user("dong", "d@example.com")).await.unwrap();
    assert_eq!((put, created.email.as_str()), (Put::Created, "d@example.com"));
    assert!(created.id.0 > 0);

    let (changed, put) = upsert(store, &user("dong", "other@example.com")).await.unwrap();
    assert_eq!((put, changed.id, changed.email.as_str()), (Put::Changed, created.id, "other@example.com"));
    assert_eq!(get(store, &name("dong")).await.unwrap(), changed);

    let (same, put) = upsert(store, &user("dong", "other@example.com")).await.unwrap();
    assert_eq!((put, same), (Put::Changed, changed), "the same again is a change of nothing");
}

async fn create_never_changes_anybody(store: &Store) {
    let created = store.create(&user("dong", "d@example.com")).await.unwrap();
    assert_eq!(store.create(&user("dong", "other@example.com")).await, Err(StoreError::UserExists));
    assert_eq!(get(store, &name("dong")).await.unwrap(), created);
}

async fn an_absent_user_is_neither_found_nor_deleted(store: &Store) {
    assert_eq!(get(store, &name("nobody")).await, Err(StoreError::NoSuchUser));
    assert_eq!(delete(store, &name("nobody")).await, Err(StoreError::NoSuchUser));
    upsert(store, &user("dong", "d@example.com")).await.unwrap();
    assert_eq!(delete(store, &name("dong")).await, Ok(()));
    assert_eq!(delete(store, &name("dong")).await, Err(StoreError::NoSuchUser));
    assert_eq!(get(store, &name("dong")).await, Err(StoreError::NoSuchUser));
    assert_eq!(list(store, None, 10).await, []);
}

async fn ids_are_never_given_twice(store: &Store) {
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let (user, put) = upsert(store, &user("dong", "d@example.com")).await.unwrap();
        assert_eq!(put, Put::Created);
        assert!(ids.last().is_none_or(|last| user.id > *last) && ids.insert(user.id));
        delete(store, &name("dong")).await.unwrap();
    }
}

async fn names_that_look_alike_are_different_users(store: &Store) {
    // Each of these collides under one of MySQL's usual collations: case, accents, width, every emoji the same.
    let names = [
        "dong",
        "Dong",
        "DONG",
        "döng",
        "dóng",
        "ｄong",
        "ß",
        "ss",
        "😀",
        "😁",
        "👩‍👩‍👧",
        "👩‍👩‍👦",
        "a",
        "a\u{5d0}",
        "a!",
        "a b",
    ];
    for (n, text) in names.iter().enumerate() {
        let (_, put) = upsert(store, &user(text, &format!("u{n}@example.com"))).await.unwrap();
        assert_eq!(put, Put::Created, "{text}");
    }
    for (n, text) in names.iter().enumerate() {
        let user = get(store, &name(text)).await.unwrap();
        assert_eq!((user.name.as_str(), user.email.as_str()), (*text, &*format!("u{n}@example.com")));
    }
    // Composed in another way it is the same name.
    assert_eq!(get(store, &name("do\u{308}ng")).await.unwrap().email.as_str(), "u3@example.com");
}

async fn the_longest_values_are_kept_whole(store: &Store) {
    let domain = format!("{}.com", ["y".repeat(61), "y".repeat(61), "y".repeat(61)].join("."));
    let email = format!("{}@{domain}", "x".repeat(64));
    assert_eq!(email.len(), 254);
    for longest in ["x".repeat(128), "😀".repeat(128)] {
        let (stored, _) = upsert(store, &user(&longest, &email)).await.unwrap();
        assert_eq!((stored.name.as_str(), stored.email.as_str()), (&*longest, &*email));
        assert_eq!(get(store, &name(&longest)).await.unwrap(), stored);
    }
}

async fn text_that_looks_like_sql_is_text(store: &Store) {
    upsert(store, &user("monitor", "k@example.com")).await.unwrap();
    let names = [
        "Robert'); DROP TABLE users;--",
        "' OR '1'='1",
        "\" OR \"\"=\"",
        "\\'; DELETE FROM users; --",
        "%",
        "_",
        "?",
        "$1",
        ":name",
        "/* */",
        "\\0",
        "{{7*7}}",
        "NULL",
        "0x41",
    ];
    for text in names {
        let (stored, put) = upsert(store, &user(text, "o'brien@example.com")).await.unwrap();
        assert_eq!((put, stored.name.as_str()), (Put::Created, text));
        assert_eq!(get(store, &name(text)).await.unwrap(), stored);
    }
    for text in names {
        delete(store, &name(text)).await.unwrap();
    }
    let left = list(store, None, 100).await;
    assert_eq!(left.len(), 1, "only what was named was deleted");
    assert_eq!(left[0].name.as_str(), "monitor");
}

async fn a_list_is_in_the_order_of_ids_and_pages_without_gaps(store: &Store) {
    for n in 0..25 {
        upsert(store, &user(&format!("user {}", 24 - n), "d@example.com")).await.unwrap();
    }
    let all = list(store, None, 100).await;
    assert_eq!(all.len(), 25);
    assert!(all.is_sorted_by_key(|user| user.id));

    // Deleting what was listed and what comes later does not shift the pages.
    let mut paged = list(store, None, 10).await;
    delete(store, &paged[3].name).await.unwrap();
    delete(store, &all[12].name).await.unwrap();
    while let Some(last) = paged.last() {
        let page = list(store, Some(last), 10).await;
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    let expected: Vec<_> = all.iter().filter(|user| user.id != all[12].id).cloned().collect();
    assert_eq!(paged, expected);
}

async fn concurrent_puts_of_one_name_make_one_user(store: &Store) {
    let mut puts = JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        puts.spawn(async move { upsert(&store, &user("dong", &format!("u{n}@example.com"))).await.unwrap() });
    }
    let done = puts.join_all().await;
    let ids: BTreeSet<_> = done.iter().map(|(user, _)| user.id).collect();
    assert_eq!(ids.len(), 1, "one user, one id");
    assert_eq!(done.iter().filter(|(_, put)| *put == Put::Created).count(), 1);
    let all = list(store, None, 100).await;
    assert_eq!(all.len(), 1);
    assert!(done.iter().any(|(user, _)| *user == all[0]), "what is there is what one of them put");
}

async fn concurrent_creates_of_one_name_have_one_winner(store: &Store) {
    let mut creates = JoinSet::new();
    for n in 0..20 {
        let store = store.clone();
        creates.spawn(async move { store.create(&user("dong", &format!("u{n}@example.com"))).await });
    }
    let mut winners = Vec::new();
    for result in creates.join_all().await {
        match result {
            Ok(user) => winners.push(user),
            Err(error) => assert_eq!(error, StoreError::UserExists),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(get(store, &name("dong")).await.unwrap(), winners[0]);
}

async fn concurrent_puts_and_deletes_never_fail(store: &Store) {
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..15 {
                if n % 2 == 0 {
                    upsert(&store, &user("dong", &format!("u{n}@example.com"))).await.unwrap();
                } else {
                    assert!(matches!(delete(&store, &name("dong")).await, Ok(()) | Err(StoreError::NoSuchUser)));
                }
            }
        });
    }
    tasks.join_all().await;
    assert!(list(store, None, 10).await.len() <= 1);
}

/// The monitor of this store checks what it opened; another one starts on the same and finds everything.
async fn what_was_stored_is_there_for_other_instances(store: &Store) {
    let mut tasks = JoinSet::new();
    for n in 0..10 {
        let store = store.clone();
        tasks.spawn(async move { upsert(&store, &user(&format!("user {n}"), "d@example.com")).await.unwrap() });
    }
    let mut put: Vec<_> = tasks.join_all().await.into_iter().map(|(user, _)| user).collect();
    put.sort_by_key(|user| user.id);
    assert_eq!(list(store, None, 100).await, put);
    for user in &put {
        assert_eq!(get(store, &user.name).await.as_ref(), Ok(user));
    }
}
