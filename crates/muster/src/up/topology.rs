//! What runs: every process with its program, arguments, environment and address. Pure: nothing is started here.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use crate::{
    environment::{Environment, is_given, set_unless_given},
    up::{
        child_environment,
        data_folder::DataFolder,
        etcd::{
            log_level::EtcdLogLevel,
            member::{self, Join},
        },
        ports::Ports,
        programs::Programs,
    },
};

/// The steps of starting, in their order. The end has an order of its own, see [`Stage::END`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The members of etcd.
    Etcd,
    /// The registries.
    Registry,
    /// Everything that registers itself.
    Services,
    /// `balance`.
    Gateway,
}

/// A process to be kept running.
#[derive(Clone)]
pub(crate) struct Process {
    /// `mail-1`.
    pub(crate) name: String,
    /// When it starts and ends.
    pub(crate) stage: Stage,
    /// What is run.
    pub(crate) program: PathBuf,
    /// With which arguments.
    pub(crate) arguments: Vec<OsString>,
    /// In which environment; nothing is inherited beside it. May hold secrets: never to be printed.
    pub(crate) environment: Environment,
    /// In which folder.
    pub(crate) folder: PathBuf,
    /// Where it listens; with the ports in `ports`.
    pub(crate) address: SocketAddr,
    /// The ports that it listens on.
    pub(crate) ports: Vec<u16>,
    /// What answers 200 when it is ready.
    pub(crate) readiness_url: String,
}

/// All that decides what runs.
pub(crate) struct Settings<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) ports: &'a Ports,
    pub(crate) data: &'a DataFolder,
    /// The environment of `muster` itself.
    pub(crate) environment: &'a Environment,
    pub(crate) etcd_log: EtcdLogLevel,
}

// === impl Stage ===

impl Stage {
    /// In which order the stages end: a sender of requests before those that answer them.
    ///
    /// The gateway first: it takes no more requests and finishes those under way while everything behind it still
    /// answers, so that no client sees an error other than a refused connection. Then the services, which deregister at
    /// a registry that is still there; then the registries; then etcd, on which all of them lean.
    pub(crate) const END: [Self; 4] = [Self::Gateway, Self::Services, Self::Registry, Self::Etcd];
}

// === impl Settings ===

impl Settings<'_> {
    /// The processes in the order of starting. Members of etcd join as [`Join::New`].
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut processes: Vec<Process> =
            (0..member::MEMBERS).map(|index| self.etcd(&member::name(index), Join::New)).collect();
        processes.extend(["registry-1", "registry-2"].map(|name| self.registry(name)));
        processes.extend(["mail-1", "mail-2"].map(|name| self.mail(name)));
        processes.extend(["userlist-1", "userlist-2"].map(|name| self.userlist(name)));
        processes.push(self.balance());
        processes
    }

    /// One member of etcd.
    pub(crate) fn etcd(&self, name: &str, join: Join) -> Process {
        let client = self.ports.address(name);
        Process {
            arguments: member::arguments(name, &self.data.etcd(), client, join, self.etcd_log),
            environment: child_environment::of_etcd(self.environment),
            // Their sockets are relative to it, which also keeps their paths within the 108 bytes that a socket has.
            folder: self.data.etcd(),
            // Answers 200 once there is a leader and this member hears it.
            readiness_url: format!("http://{client}/health"),
            ..self.process(name, Stage::Etcd, &self.programs.etcd)
        }
    }

    fn registry(&self, name: &str) -> Process {
        let mut process = self.process(name, Stage::Registry, &self.programs.registry);
        process.set("REGISTRY_LISTEN", process.address.to_string());
        let dns = self.ports.address(if name == "registry-1" { "dns-1" } else { "dns-2" });
        process.set("REGISTRY_DNS_LISTEN", dns.to_string());
        process.ports.push(dns.port());
        process.set("ETCD_ENDPOINTS", self.etcd_endpoints().join(","));
        let registries = ["registry-1", "registry-2"].map(|name| self.ports.address(name).to_string());
        let refused = format!("{},{}", self.ports.address("balance-admin"), registries.join(","));
        set_unless_given(&mut process.environment, "REGISTRY_REFUSE_ADDRESSES", refused);
        process
    }

    /// It registers by the name that stands before its log lines, which stays when a taken port gives it another
    /// address.
    fn mail(&self, name: &str) -> Process {
        let mut process = self.process(name, Stage::Services, &self.programs.mail);
        process.set("MAIL_LISTEN", process.address.to_string());
        process.set("INSTANCE_ID", name.to_owned());
        process.set("REGISTRY_URLS", self.registries().join(","));
        if !is_given(&process.environment, "MAIL_SMTP_URL") {
            set_unless_given(&mut process.environment, "MAIL_DIR", self.data.mail());
        } else if !is_given(&process.environment, "MAIL_TOKENS_FILE") {
            // Everything here listens on loopback.
            set_unless_given(&mut process.environment, "MAIL_OPEN", "true");
        }
        set_unless_given(&mut process.environment, "MAIL_OUTBOX_URL", sqlite_url(&self.data.outbox()));
        set_unless_given(&mut process.environment, "MAIL_GATEWAY_URL", self.gateway());
        set_unless_given(&mut process.environment, "MAIL_PUBLIC_URL", format!("{}/mail", self.gateway()));
        process
    }

    /// Registers by its name, as [`Self::mail`] does.
    fn userlist(&self, name: &str) -> Process {
        let mut process = self.process(name, Stage::Services, &self.programs.userlist);
        process.set("USERLIST_LISTEN", process.address.to_string());
        process.set("INSTANCE_ID", name.to_owned());
        process.set("REGISTRY_URLS", self.registries().join(","));
        set_unless_given(&mut process.environment, "USERLIST_DATABASE_URL", self.users_url());
        process
    }

    fn balance(&self) -> Process {
        let mut process = self.process("balance", Stage::Gateway, &self.programs.balance);
        let admin = self.ports.address("balance-admin");
        process.set("BALANCE_LISTEN", process.address.to_string());
        process.set("BALANCE_ADMIN_LISTEN", admin.to_string());
        process.set("ETCD_ENDPOINTS", self.etcd_endpoints().join(","));
        let snapshot = self.data.balance().join("routing-table.json");
        set_unless_given(&mut process.environment, "BALANCE_SNAPSHOT_FILE", snapshot);
        process.ports.push(admin.port());
        process.readiness_url = format!("http://{admin}/readyz");
        process
    }

    fn process(&self, name: &str, stage: Stage, program: &std::path::Path) -> Process {
        let address = self.ports.address(name);
        Process {
            name: name.to_owned(),
            stage,
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: child_environment::of_service(self.environment),
            // That of `muster`, so that relative paths in a user's settings mean what they say.
            folder: ".".into(),
            address,
            ports: vec![address.port()],
            readiness_url: format!("http://{address}/readyz"),
        }
    }

    /// The gateway, as the start of a URL.
    pub(crate) fn gateway(&self) -> String {
        format!("http://{}", self.ports.address("balance"))
    }

    /// The gateway's admin side.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.ports.address("balance-admin"))
    }

    /// The registries.
    pub(crate) fn registries(&self) -> Vec<String> {
        ["registry-1", "registry-2"].map(|name| format!("http://{}", self.ports.address(name))).to_vec()
    }

    /// The client side of the etcd members.
    pub(crate) fn etcd_endpoints(&self) -> Vec<String> {
        (0..member::MEMBERS).map(|i| format!("http://{}", self.ports.address(&member::name(i)))).collect()
    }

    /// The file in which users are, as a URL.
    fn users_url(&self) -> String {
        sqlite_url(&self.data.users())
    }
}

/// A file as the URL of a SQLite database; what would end a path in a URL is escaped.
fn sqlite_url(file: &std::path::Path) -> String {
    let path = file.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite:{path}")
}

// === impl Process ===

impl Process {
    fn set(&mut self, name: &str, value: String) {
        self.environment.insert(name.into(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ffi::OsStr, path::Path};

    use super::*;

    fn processes(variables: &[(&str, &str)]) -> BTreeMap<String, Process> {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::open(&dir.path().join("a b")).unwrap();
        let program = |name: &str| Path::new("/bin").join(name);
        let programs = Programs {
            etcd: program("etcd"),
            registry: program("registry"),
            balance: program("balance"),
            mail: program("mail"),
            userlist: program("userlist"),
        };
        let settings = Settings {
            programs: &programs,
            ports: &Ports::choose(&BTreeMap::new(), |_| true).unwrap(),
            data: &data,
            environment: &crate::environment::sample(variables),
            etcd_log: EtcdLogLevel::Warn,
        };
        settings.processes().into_iter().map(|process| (process.name.clone(), process)).collect()
    }

    fn variable<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
        process.environment.get(OsStr::new(name)).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn three_members_two_of_each_service_and_one_gateway_run() {
        let processes = processes(&[]);
        let names: Vec<&str> = processes.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "balance",
                "etcd-1",
                "etcd-2",
                "etcd-3",
                "mail-1",
                "mail-2",
                "registry-1",
                "registry-2",
                "userlist-1",
                "userlist-2"
            ]
        );
        assert_eq!(variable(&processes["mail-2"], "MAIL_LISTEN"), Some("127.0.0.1:7071"));
        for name in ["mail-1", "mail-2", "userlist-1", "userlist-2"] {
            assert_eq!(variable(&processes[name], "INSTANCE_ID"), Some(name));
        }
        let registries = Some("http://127.0.0.1:8500,http://127.0.0.1:8501");
        assert_eq!(variable(&processes["userlist-1"], "REGISTRY_URLS"), registries);
        let etcd = Some("http://127.0.0.1:2379,http://127.0.0.1:22379,http://127.0.0.1:32379");
        assert_eq!(variable(&processes["registry-2"], "ETCD_ENDPOINTS"), etcd);
        assert_eq!(processes["balance"].ports, [8080, 8081]);
        assert_eq!(variable(&processes["registry-2"], "REGISTRY_DNS_LISTEN"), Some("127.0.0.1:8601"));
        assert_eq!(processes["registry-1"].ports, [8500, 8600]);
        let refused = Some("127.0.0.1:8081,127.0.0.1:8500,127.0.0.1:8501");
        assert_eq!(variable(&processes["registry-2"], "REGISTRY_REFUSE_ADDRESSES"), refused);
    }

    #[test]
    fn what_must_survive_is_in_the_data_folder() {
        let processes = processes(&[]);
        assert!(variable(&processes["mail-1"], "MAIL_DIR").unwrap().ends_with("/a b/mail"));
        let users = variable(&processes["userlist-1"], "USERLIST_DATABASE_URL").unwrap();
        assert!(users.starts_with("sqlite:/") && users.ends_with("/a b/userlist.db"), "{users}");
        let table = variable(&processes["balance"], "BALANCE_SNAPSHOT_FILE").unwrap();
        assert!(table.ends_with("/a b/balance/routing-table.json"), "{table}");
    }

    #[test]
    fn a_persons_mail_server_and_database_win() {
        let processes = processes(&[("MAIL_SMTP_URL", "smtp://a"), ("USERLIST_DATABASE_URL", "mysql://b")]);
        assert_eq!(variable(&processes["mail-1"], "MAIL_SMTP_URL"), Some("smtp://a"));
        assert_eq!(variable(&processes["mail-1"], "MAIL_DIR"), None);
        assert_eq!(variable(&processes["mail-1"], "MAIL_OPEN"), Some("true"));
        assert_eq!(variable(&processes["userlist-2"], "USERLIST_DATABASE_URL"), Some("mysql://b"));
    }

    #[test]
    fn the_gateway_ends_before_what_it_sends_to_and_etcd_ends_last() {
        assert_eq!(Stage::END.first(), Some(&Stage::Gateway));
        assert_eq!(Stage::END.last(), Some(&Stage::Etcd));
        assert!(Stage::END.contains(&Stage::Services) && Stage::END.contains(&Stage::Registry));
    }
}
