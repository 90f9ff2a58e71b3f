//! Claims: which instance sends what, for how long.
//!
//! A delivery is claimed before it is sent, for [`CLAIM`], and the claim is renewed while it is being sent. The claims
//! of an instance that was killed expire, and another one (or the next process) takes over. When a running instance
//! cannot reach the database for that long, another one may send the same message: a duplicate with the same
//! Message-ID.
//!
//! Deliveries of one message to one domain are claimed together and count as one: they go in one transaction. They need
//! not stand behind each other: recipients of other domains are between them, and retries are due at different moments.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use service_kit::time::UnixMillis;

use super::{
    Outbox, OutboxError,
    entry::{CLAIM, Candidate, Claimed, State, Stored},
    events::Kinds,
    sql::{Connection, placeholders, query},
    suppression::{self, Stream},
};

/// How often claims are renewed.
pub const RENEWAL: Duration = Duration::from_secs(6);

/// How many rows are looked at, at most, for each that is wanted, because limits pass some over.
const LOOKED_AT: usize = 4;
/// The fewest rows that are looked at where limits pass them over: as many recipients as every server takes in one
/// transaction (RFC 5321, section 4.5.3.1.8).
pub(in crate::outbox) const RECIPIENTS_MAX: usize = 100;
/// How many are settled in one transaction because nothing may be sent to them.
const WITHHELD_MAX: usize = 2500;

type Row = (i64, String, String, String, i64, i64, i64);

/// What becomes of a row that could be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) enum Choice {
    /// Not now.
    Pass,
    /// It is one of those that are wanted.
    Begin,
    /// It goes together with one that was chosen.
    Join,
}

/// What to look for.
#[derive(Debug, Clone)]
pub(in crate::outbox) struct Wanted {
    pub(in crate::outbox) claim: String,
    /// How many, not counted those that go together with others.
    pub(in crate::outbox) count: usize,
    /// Domains at their limit.
    pub(in crate::outbox) without: Vec<String>,
    pub(in crate::outbox) now: UnixMillis,
}

/// How far the due rows of one kind have been looked at, the oldest first.
struct Look {
    bulk: i64,
    /// How many more may be looked at.
    left: usize,
    withheld: usize,
    pages: u32,
    /// The last row.
    after: Option<(UnixMillis, i64)>,
    is_at_the_end: bool,
}

impl Outbox {
    /// Claims due deliveries, the oldest first, mail to single people before broadcasts; `choose` gets whether there is
    /// room, and returns what becomes of each. Those whose address is on the suppression list by now are settled, and
    /// `choose` does not see them.
    pub(in crate::outbox) async fn claim(
        &self,
        wanted: Wanted,
        mut choose: impl FnMut(&Candidate, bool) -> Choice + Send + 'static,
    ) -> Result<Vec<Claimed>, OutboxError> {
        let (lock, by_message) = (self.database.target().for_update(), self.database.target().by_message());
        let kinds = self.kinds;
        let claiming = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let mut chosen = Vec::new();
                let mut room = wanted.count;
                for bulk in [0, 1] {
                    let mut look = Look::begin(bulk, room);
                    let first = chosen.len();
                    while look.goes_on(room) {
                        let rows = leaving(connection, &wanted, &mut look, room, lock, kinds).await?;
                        for row in rows {
                            let choice = choose(&row, room > 0);
                            room -= usize::from(choice == Choice::Begin);
                            if choice != Choice::Pass {
                                chosen.push(row);
                            }
                        }
                    }
                    let begun = Companions::of(chosen.get(first..).unwrap_or_default(), by_message);
                    if !look.is_at_the_end && begun.pairs > 0 {
                        let rows = begun.leaving(connection, &wanted, &look, lock, kinds).await?;
                        chosen.extend(rows.into_iter().filter(|row| choose(row, false) == Choice::Join));
                    }
                    if room == 0 {
                        break;
                    }
                }
                mark(connection, &chosen, &wanted).await?;
                with_contents(connection, chosen).await
            })
        }));
        claiming.await
    }

    /// Keeps `deliveries` for another [`CLAIM`].
    pub(in crate::outbox) async fn renew(
        &self,
        claim: &str,
        deliveries: Vec<i64>,
        until: UnixMillis,
    ) -> Result<(), OutboxError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let claim = claim.to_owned();
        let renewing = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "UPDATE deliveries SET claimed_until_ms = ? WHERE id IN ({}) AND claim = ?",
                    placeholders(deliveries.len())
                );
                let mut query = query(sql).bind(until.0);
                for delivery in &deliveries {
                    query = query.bind(*delivery);
                }
                query.bind(claim).execute(connection).await?;
                Ok(())
            })
        }));
        renewing.await
    }
}

// === impl Look ===

impl Look {
    fn begin(bulk: i64, room: usize) -> Self {
        let left = room.saturating_mul(LOOKED_AT).max(RECIPIENTS_MAX);
        Self { bulk, left, withheld: 0, pages: 0, after: None, is_at_the_end: false }
    }

    fn goes_on(&self, room: usize) -> bool {
        !self.is_at_the_end && room > 0 && self.left > 0 && self.withheld < WITHHELD_MAX
    }

    /// One more than there is room for, to see whether that is all; twice as many each time, where limits pass rows
    /// over.
    fn page(&self, room: usize) -> usize {
        room.saturating_add(1).saturating_mul(1 << self.pages.min(10)).min(self.left)
    }
}

/// The other due deliveries of messages that were chosen, to domains that were: those after the last row of a look.
struct Companions {
    by_message: &'static str,
    messages: BTreeSet<String>,
    domains: BTreeSet<String>,
    /// Transactions that were begun, about: how many may be joined.
    pairs: usize,
}

// === impl Companions ===

impl Companions {
    fn of(chosen: &[Candidate], by_message: &'static str) -> Self {
        let pairs: BTreeSet<_> = chosen.iter().map(|row| (&row.message, &row.domain)).collect();
        Self {
            by_message,
            messages: chosen.iter().map(|row| row.message.clone()).collect(),
            domains: chosen.iter().map(|row| row.domain.clone()).collect(),
            pairs: pairs.len(),
        }
    }

    /// Without those whose address is on the suppression list, which are settled.
    async fn leaving(
        &self,
        connection: &mut Connection,
        wanted: &Wanted,
        look: &Look,
        lock: &str,
        kinds: Kinds,
    ) -> Result<Vec<Candidate>, OutboxError> {
        let settled_max = WITHHELD_MAX.saturating_sub(look.withheld);
        let count = self.pairs.saturating_mul(RECIPIENTS_MAX).min(settled_max);
        let rows = due(connection, wanted, look, Some(self), count, lock).await?;
        let stream = Stream::of(look.bulk != 0);
        Ok(suppression::withhold(connection, rows, stream, wanted.now, kinds).await?.0)
    }
}

/// The next due deliveries to addresses that are not on the suppression list.
async fn leaving(
    connection: &mut Connection,
    wanted: &Wanted,
    look: &mut Look,
    room: usize,
    lock: &str,
    kinds: Kinds,
) -> Result<Vec<Candidate>, OutboxError> {
    let count = look.page(room);
    let rows = due(connection, wanted, look, None, count, lock).await?;
    look.pages += 1;
    look.is_at_the_end = rows.len() < count;
    look.after = rows.last().map(|row| (row.due, row.delivery));
    let (rows, withheld) =
        suppression::withhold(connection, rows, Stream::of(look.bulk != 0), wanted.now, kinds).await?;
    look.withheld += withheld;
    look.left = look.left.saturating_sub(rows.len());
    Ok(rows)
}

async fn due(
    connection: &mut Connection,
    wanted: &Wanted,
    look: &Look,
    only: Option<&Companions>,
    count: usize,
    lock: &str,
) -> Result<Vec<Candidate>, OutboxError> {
    let without = match wanted.without.len() {
        0 => String::new(),
        count => format!(" AND domain NOT IN ({})", placeholders(count)),
    };
    let after = if look.after.is_some() { " AND due_ms >= ? AND (due_ms > ? OR id > ?)" } else { "" };
    let by = only.map_or("", |only| only.by_message);
    let only_of = only.map_or_else(String::new, |Companions { messages, domains, .. }| {
        let (messages, domains) = (placeholders(messages.len()), placeholders(domains.len()));
        format!(" AND message IN ({messages}) AND domain IN ({domains})")
    });
    let sql = format!(
        "SELECT id, message, recipient, domain, attempts, expires_ms, due_ms FROM deliveries{by} \
         WHERE state = 'queued' AND bulk = ? AND due_ms <= ? AND claimed_until_ms <= ?{without}{after}{only_of} \
         ORDER BY due_ms, id LIMIT ?{lock}"
    );
    let mut query = query(sql).bind(look.bulk).bind(wanted.now.0).bind(wanted.now.0);
    for domain in &wanted.without {
        query = query.bind(domain);
    }
    if let Some((UnixMillis(due), delivery)) = look.after {
        query = query.bind(due).bind(due).bind(delivery);
    }
    for one in only.iter().flat_map(|only| only.messages.iter().chain(&only.domains)) {
        query = query.bind(one);
    }
    let rows: Vec<Row> = query.bind(i64::try_from(count).unwrap_or(i64::MAX)).fetch_all(connection).await?;
    Ok(rows.into_iter().map(candidate).collect())
}

fn candidate((delivery, message, recipient, domain, attempts, expires, due): Row) -> Candidate {
    let (expires, due) = (UnixMillis(expires), UnixMillis(due));
    Candidate { delivery, domain, message, recipient, attempts, expires, due }
}

async fn mark(connection: &mut Connection, chosen: &[Candidate], wanted: &Wanted) -> Result<(), OutboxError> {
    if chosen.is_empty() {
        return Ok(());
    }
    let sql =
        format!("UPDATE deliveries SET claim = ?, claimed_until_ms = ? WHERE id IN ({})", placeholders(chosen.len()));
    let mut query = query(sql).bind(&wanted.claim).bind((wanted.now + CLAIM).0);
    for row in chosen {
        query = query.bind(row.delivery);
    }
    query.execute(connection).await?;
    Ok(())
}

/// The recipients of one message share its content.
async fn with_contents(connection: &mut Connection, rows: Vec<Candidate>) -> Result<Vec<Claimed>, OutboxError> {
    let mut claimed: Vec<Claimed> = Vec::with_capacity(rows.len());
    let mut messages: HashMap<String, (String, String, Arc<Stored>)> = HashMap::new();
    for row in rows {
        if !messages.contains_key(&row.message) {
            let found: Option<(String, String, Vec<u8>)> =
                query("SELECT message_id, sender, content FROM messages WHERE id = ?")
                    .bind(&row.message)
                    .fetch_optional(&mut *connection)
                    .await?;
            let Some((message_id, sender, content)) = found else { continue };
            let content = Arc::new(Stored::new(&row.message, content));
            messages.insert(row.message.clone(), (message_id, sender, content));
        }
        let Some((message_id, sender, content)) = messages.get(&row.message) else { continue };
        claimed.push(Claimed {
            delivery: row.delivery,
            recipient: row.recipient,
            domain: row.domain,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            expires: row.expires,
            message_id: message_id.clone(),
            sender: sender.clone(),
            content: Arc::clone(content),
        });
    }
    Ok(claimed)
}

/// What a list of recipients shows for a delivery that is claimed.
pub(in crate::outbox) fn shown(state: State, claimed_until: UnixMillis, now: UnixMillis) -> State {
    if state == State::Queued && claimed_until > now { State::Sending } else { state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_looks_at_little_more_than_it_wants_and_further_where_limits_pass_rows_over() {
        let mut look = Look::begin(0, 5);
        assert_eq!((look.left, look.page(5)), (RECIPIENTS_MAX, 6));
        assert!(!look.goes_on(0), "there is no room");
        let mut looked_at = 0;
        while look.goes_on(5) {
            let page = look.page(5);
            (look.pages, look.left, looked_at) = (look.pages + 1, look.left - page, looked_at + page);
        }
        assert_eq!((looked_at, look.pages), (RECIPIENTS_MAX, 5));
    }
}
