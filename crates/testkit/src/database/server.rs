//! Which server: MariaDB as the system has it, or MySQL from a folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{PASSWORD, USER};

const HOW_TO_GET_IT: &str = "cannot run MariaDB; on Debian: apt-get install mariadb-server";

/// Small, and as durable as any: a committed transaction survives SIGKILL.
const OPTIONS: [&str; 6] = [
    "--innodb-buffer-pool-size=16M",
    "--innodb-autoextend-increment=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--skip-name-resolve",
    "--performance-schema=OFF",
    // Every look whether it answers is a connection that breaks off.
    "--max-connect-errors=1000000",
];
const MARIADB_OPTIONS: [&str; 2] = ["--innodb-data-file-path=ibdata1:8M:autoextend", "--innodb-log-file-size=4M"];
const MYSQL_OPTIONS: [&str; 4] = [
    "--innodb-data-file-path=ibdata1:12M:autoextend",
    "--innodb-redo-log-capacity=8M",
    "--mysqlx=OFF",
    "--disable-log-bin",
];

/// A kind of server, and where its programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// What `mariadbd` and its like in `PATH` are.
    Mariadb,
    /// The root of a file system in which MySQL is installed, with the C library that it wants.
    Mysql(PathBuf),
}

// === impl Server ===

impl Server {
    /// MySQL where `TESTKIT_MYSQL` names such a folder (`crates/testkit/on-mysql` makes one), else MariaDB.
    pub(super) fn chosen() -> Self {
        let folder = std::env::var_os("TESTKIT_MYSQL").filter(|folder| !folder.is_empty());
        folder.map_or(Self::Mariadb, |folder| Self::Mysql(folder.into()))
    }

    /// What the initialised data folder is called.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Mariadb => "mariadb",
            Self::Mysql(_) => "mysql",
        }
    }

    /// The server, still without its folders and its port.
    pub(super) fn server(&self) -> Command {
        match self {
            Self::Mariadb => {
                let mut command = Command::new("mariadbd");
                command.arg("--no-defaults").args(OPTIONS).args(MARIADB_OPTIONS).args(as_root());
                command
            }
            Self::Mysql(root) => {
                let mut command = program(root, "usr/sbin/mysqld");
                let (share, plugins) =
                    (root.join("usr/share/mysql"), ["usr/lib/mysql/plugin", "usr/lib64/mysql/plugin"]);
                let plugins = plugins.map(|folder| root.join(folder)).into_iter().find(|folder| folder.is_dir());
                command
                    .arg("--no-defaults")
                    .arg(format!("--basedir={}", root.join("usr").display()))
                    .arg(format!("--lc-messages-dir={}", share.display()))
                    .arg(format!("--character-sets-dir={}", share.join("charsets").display()))
                    .args(plugins.map(|folder| format!("--plugin-dir={}", folder.display())))
                    .arg("--secure-file-priv=NULL")
                    .args(OPTIONS)
                    .args(MYSQL_OPTIONS)
                    .args(as_root());
                command
            }
        }
    }

    /// The administrator's client.
    pub(super) fn client(&self) -> Command {
        let mut command = match self {
            Self::Mariadb => Command::new("mariadb"),
            Self::Mysql(root) => program(root, "usr/bin/mysql"),
        };
        command.arg("--no-defaults");
        command
    }

    /// Makes a data folder with our account in it.
    ///
    /// # Panics
    /// When the server's programs are missing or fail; with what they printed.
    pub(super) fn initialise(&self, data: &Path) {
        let accounts = data.with_extension("sql");
        let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES";
        let sql =
            format!("CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT {rights} ON *.* TO '{USER}'@'%';\n");
        let data = format!("--datadir={}", data.display());
        match self {
            Self::Mariadb => {
                let mut tables = Command::new("mariadb-install-db");
                tables.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                succeed(tables.args(OPTIONS).args(MARIADB_OPTIONS).args(as_root()).arg(&data));
                fs::write(&accounts, format!("FLUSH PRIVILEGES;\n{sql}")).expect("a file in a temporary folder");
                let sql = File::open(&accounts).expect("a file that was just written");
                succeed(self.server().args(["--bootstrap", &data]).stdin(sql));
            }
            Self::Mysql(_) => {
                fs::write(&accounts, sql).expect("a file in a temporary folder");
                let accounts = format!("--init-file={}", accounts.display());
                succeed(self.server().args(["--initialize-insecure", &data, &accounts]));
            }
        }
    }
}

/// A program of another file system, with that one's loader and libraries.
fn program(root: &Path, path: &str) -> Command {
    let machine = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = [&*machine, "usr/lib64"].map(|folder| root.join(folder));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    let loader = entries.map(|entry| entry.path()).find(is_loader);
    let mut command =
        Command::new(loader.expect("TESTKIT_MYSQL names the root of a Linux system of this machine's kind"));
    let libraries = folders.map(|folder| folder.display().to_string()).join(":");
    command.arg("--library-path").arg(libraries).arg(root.join(path));
    command
}

fn succeed(command: &mut Command) {
    let output = command.output().expect(HOW_TO_GET_IT);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// It refuses to run as root unless told to.
fn as_root() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}
