//! `muster status`: one screen that says how everything is, the worst first.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | well |
//! | 1 | something is wrong: the first lines say what |
//! | 2 | nothing is known to be wrong, but something that was asked does not tell, or nothing answers at all |

mod findings;

use std::process::ExitCode;

use discovery_etcd::{Etcd, EtcdOptions};
use futures::future::join_all;
use http::Method;
use serde_json::json;
use url::Url;

use crate::{
    client::{
        access::{Asker, PATIENCE, TrustOptions},
        gateways::{GatewayOptions, Gateways},
        places::{DataOption, ETCD, Given, Origin, shown},
        registries::{RegistryOptions, Untold, below},
    },
    ls,
    status::findings::{Finding, GatewayFacts, Heard, Severity, of_etcd, of_gateway, of_registry, of_services},
    terminal::{
        screen::{self, Look, Screen},
        table,
    },
};

/// Options of `muster status`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    gateways: GatewayOptions,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    data: DataOption,
    /// Prints every line, also those that a screen has no room for.
    #[arg(long)]
    all: bool,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Asks everything at once, and says what that means.
pub(crate) async fn run(options: &StatusOptions, given: &Given) -> anyhow::Result<ExitCode> {
    let registries = options.registries.client(given, &options.data, &options.trust)?;
    let gateways = options.gateways.client(given, &options.data, &options.trust)?;
    let place = given.find(ETCD, given.etcd, &options.etcd.etcd_endpoints, &options.data)?;
    let is_named = place.origin != Origin::Default;
    let etcd = Etcd::new(&patient(&options.etcd, &place.urls))?;
    let (of_members, of_each, seen, listed) = tokio::join!(
        etcd.status(),
        join_all(registries.urls.iter().map(async |url| (url, ready(&registries.asker, url).await))),
        see(&gateways),
        ls::list(&registries, None),
    );
    let mut findings = of_etcd(&of_members, is_named);
    let is_heard = of_members.reachable().count() > 0
        || of_each.iter().any(|(_, heard)| !matches!(heard, Heard::Silence(_)))
        || seen.iter().any(|one| !matches!(one.readiness, Heard::Silence(_)));
    findings.extend(of_each.iter().flat_map(|(url, heard)| of_registry(shown(url), heard)));
    findings.extend(seen.iter().flat_map(of_gateway));
    match listed {
        Ok(listed) => findings.extend(of_services(&listed, &seen)),
        Err(error) => findings.extend(unlisted(&error)),
    }
    if !is_heard {
        // Nothing answers: more likely this is the wrong place, or the way there is closed, than that all is dead.
        findings.iter_mut().for_each(|finding| finding.severity = finding.severity.max(Severity::Unknown));
    }
    findings.sort_by_key(|finding| finding.severity);
    let asked =
        format!("asked: registries ({}), gateways ({}), etcd ({})", registries.origin, gateways.origin, place.origin);
    print(&findings, &asked, options)?;
    Ok(verdict(&findings).1)
}

/// A member that is slow is not one that is down: a person waits longer for it than a service may.
fn patient(options: &EtcdOptions, endpoints: &[String]) -> EtcdOptions {
    EtcdOptions {
        etcd_endpoints: endpoints.to_vec(),
        etcd_timeout: options.etcd_timeout.max(PATIENCE),
        etcd_deadline: options.etcd_deadline.max(PATIENCE).max(options.etcd_timeout),
        ..options.clone()
    }
}

/// `--json` has this word, and the exit code says the same.
fn verdict(findings: &[Finding]) -> (&'static str, ExitCode) {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Down | Severity::Wrong) => ("wrong", ExitCode::from(1)),
        Some(Severity::Unknown) => ("unknown", ExitCode::from(2)),
        Some(Severity::Note | Severity::Well) | None => ("well", ExitCode::SUCCESS),
    }
}

/// Why it is not known which services there are.
fn unlisted(error: &anyhow::Error) -> Option<Finding> {
    match error.downcast_ref::<Untold>() {
        // Each registry has said that of itself already.
        Some(Untold::Silent { .. }) => None,
        _ => Some(Finding::new(Severity::Unknown, format!("which services there are cannot be told: {error:#}"))),
    }
}

fn print(findings: &[Finding], asked: &str, options: &StatusOptions) -> anyhow::Result<()> {
    if options.json {
        let json = json!({ "verdict": verdict(findings).0, "findings": findings });
        return Ok(screen::print(&format!("{json:#}\n"))?);
    }
    let screen = Screen::of_stdout();
    let lines_max = if options.all { usize::MAX } else { screen.height.saturating_sub(2) };
    let asked = screen.paint(Look::Dim, asked);
    Ok(screen::print(&format!("{}{asked}\n", text(findings, screen, lines_max)))?)
}

/// The findings, worst first, in at most `lines_max` lines.
fn text(findings: &[Finding], screen: Screen, lines_max: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        let own = lines_of(finding, screen);
        let is_last = at + 1 == findings.len();
        if lines.len() + own.len() + usize::from(!is_last) > lines_max {
            let left = findings.len() - at;
            lines.push(format!("  … {left} more that are not worse; --all shows them"));
            break;
        }
        lines.extend(own);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn lines_of(finding: &Finding, screen: Screen) -> Vec<String> {
    const LABEL: usize = 7;
    let (label, look) = match finding.severity {
        Severity::Down => ("DOWN", Look::Bad),
        Severity::Wrong => ("wrong", Look::Bad),
        Severity::Unknown => ("unknown", Look::Doubtful),
        Severity::Note => ("note", Look::Doubtful),
        Severity::Well => ("well", Look::Good),
    };
    let mut label = format!("{}{:gap$}", screen.paint(look, label), "", gap = LABEL - label.len());
    let mut lines = Vec::new();
    for line in table::wrapped(&finding.text, screen.width - LABEL - 2) {
        lines.push(format!("{label}  {line}"));
        label = " ".repeat(LABEL);
    }
    lines
}

async fn see(gateways: &Gateways) -> Vec<GatewayFacts> {
    join_all(gateways.urls.iter().map(async |url| {
        let (readiness, table) = tokio::join!(ready(&gateways.asker, url), get(&gateways.asker, url, &["v1", "table"]));
        GatewayFacts { name: shown(url).to_owned(), readiness, table }
    }))
    .await
}

/// What `/readyz` answers; 503 is an answer.
async fn ready(asker: &Asker, url: &Url) -> Heard {
    get(asker, url, &["readyz"]).await
}

async fn get(asker: &Asker, url: &Url, path: &[&str]) -> Heard {
    match asker.ask(&Method::GET, &below(url, path, None), None).await {
        Ok(answer) if answer.is_forbidden() => Heard::Refused(answer.refusal(url)),
        Ok(answer) => match &answer.json {
            Ok(json) if json.is_object() && json.get("code").is_none() => Heard::Answer(json.clone()),
            _ => Heard::Refused(answer.refusal(url)),
        },
        Err(why) => Heard::Silence(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, text: &str) -> Finding {
        Finding::new(severity, text)
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let code = |severities: &[Severity]| {
            let findings: Vec<_> = severities.iter().map(|severity| finding(*severity, "x")).collect();
            format!("{:?}", verdict(&findings).1)
        };
        assert_eq!(code(&[Severity::Well, Severity::Note]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&[Severity::Well, Severity::Unknown]), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(&[Severity::Unknown, Severity::Wrong]), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(&[Severity::Down, Severity::Unknown]), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn one_screen_shows_the_worst_and_counts_the_rest() {
        let findings: Vec<_> =
            (0..9).map(|n| finding(Severity::Wrong, &format!("thing {n} is not as it should be"))).collect();
        let text = text(&findings, Screen::sample(40, false), 4);
        let expected = "wrong    thing 0 is not as it should be\nwrong    thing 1 is not as it should be\n\
                        wrong    thing 2 is not as it should be\n  … 6 more that are not worse; --all shows them\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_sentence_goes_on_below_itself() {
        let one = [finding(Severity::Down, "mail is down: no instance is registered")];
        let expected = "DOWN     mail is down: no instance is\n         registered\n";
        assert_eq!(text(&one, Screen::sample(40, false), 10), expected);
    }
}
