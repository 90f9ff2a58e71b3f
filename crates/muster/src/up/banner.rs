//! What is shown once everything runs: what is where, and what to try.

use std::path::Path;

use crate::{
    environment::is_given,
    terminal::{shell_quote::quoted, table},
    up::{options::UpOptions, process_table::Known, topology::Settings},
};

/// The table and the lines to try.
pub(crate) fn text(known: &Known, settings: &Settings<'_>, options: &UpOptions) -> String {
    let muster = quoted(&std::env::args().next().unwrap_or_else(|| "muster".to_owned()));
    // Where the other commands look for addresses by themselves.
    let find = if options.data == Path::new("data") {
        String::new()
    } else {
        format!(" --data {}", quoted(&settings.data.path().display().to_string()))
    };
    let data = settings.data;
    let gateway = format!("localhost:{}", settings.ports.of("balance"));
    let own_mail = is_given(settings.environment, "MAIL_SMTP_URL") || is_given(settings.environment, "MAIL_DIR");
    let mails = if own_mail {
        "Mails go where MAIL_SMTP_URL or MAIL_DIR says.".to_owned()
    } else {
        format!("The mail is then a file:  ls {}/*.eml", quoted(&data.mail().display().to_string()))
    };
    format!(
        "
{table}
Try, in another terminal:

  curl -d '{{\"method\":\"put\",\"name\":\"dong\",\"email\":\"d@example.com\"}}' {gateway}/userlist
  curl -d '{{\"method\":\"get\",\"name\":\"dong\"}}' {gateway}/userlist
  curl -d '{{\"address\":\"a@b.c\",\"message\":\"hello\"}}' {gateway}/mail
  curl -d '{{\"method\":\"del\",\"name\":\"dong\"}}' {gateway}/userlist

  {muster} ls{find}        who is registered
  {muster} watch{find}     the same, live; kill a process of the table above and see
  {muster} status{find}    how everything is, the worst first

{mails}
Everything that is kept is in {data}. Ctrl-C stops everything in order.
",
        table = processes(known, settings),
        data = data.path().display(),
    )
}

fn processes(known: &Known, settings: &Settings<'_>) -> String {
    let mut rows: Vec<[String; 4]> = known
        .processes
        .iter()
        .map(|entry| {
            let pid = entry.pid.map(|pid| pid.to_string()).unwrap_or_default();
            [entry.name.clone(), format!("http://{}", entry.address), pid, entry.condition.as_str().replace('_', " ")]
        })
        .collect();
    let admin = ["  its admin side".to_owned(), settings.admin(), String::new(), String::new()];
    if let Some(balance) = rows.iter().position(|row| row[0] == "balance") {
        rows.insert(balance + 1, admin);
        // The gateway is what people are here for.
        rows.rotate_left(balance);
    }
    table::layout(["what", "where", "process", "is"], &rows)
}
