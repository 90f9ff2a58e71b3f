//! How each program is started, and with which configuration.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use testkit::ports::free_ports;

use super::{Kind, Setting};
use crate::machine;

/// Connections that nginx, Envoy and Caddy may have, either side counted.
const CONNECTIONS: usize = 16_384;
/// Connections of users that HAProxy may have; it wants two descriptors for each.
const HAPROXY_CONNECTIONS: usize = 8_000;

/// The command that runs `kind` on `address`.
pub(super) fn command(kind: Kind, address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    match kind {
        Kind::Balance => balance(address, setting),
        Kind::Nginx => nginx(address, setting),
        Kind::HaProxy => haproxy(address, setting),
        Kind::Envoy => envoy(address, setting),
        Kind::Caddy => caddy(address, setting),
    }
}

/// `balance` from its snapshot, with an etcd that is not there: the steadiest way to give it instances, and every
/// protection of its data path is on.
fn balance(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let snapshot = setting.folder.join(format!("table-{}.json", address.port()));
    fs::write(&snapshot, setting.known.snapshot(setting.upstreams).to_string())?;
    let [admin, unused] = free_ports(2)[..] else { bail!("two ports were asked for") };
    let mut command = Command::new(setting.balance);
    command.env_clear().args(["--workers", "1", "--log", "warn", "--listen", &address.to_string()]);
    command.args(["--admin-listen", &format!("127.0.0.1:{admin}"), "--connections-max", "16000", "--keep-alive", "5m"]);
    command.args(["--etcd-endpoints", &format!("http://127.0.0.1:{unused}"), "--snapshot-file"]).arg(snapshot);
    Ok(command)
}

/// `balance` as an operator starts it, with an etcd that is there. Two workers, so that the table reaches more than one.
pub(super) fn with_etcd(address: SocketAddr, admin: SocketAddr, endpoint: &str, setting: &Setting<'_>) -> Command {
    let snapshot = setting.folder.join(format!("table-{}.json", address.port()));
    let mut command = Command::new(setting.balance);
    command.env_clear().args(["--workers", "2", "--listen", &address.to_string()]);
    command.args(["--admin-listen", &admin.to_string(), "--etcd-endpoints", endpoint, "--snapshot-file"]).arg(snapshot);
    command
}

fn nginx(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let files = (2 * CONNECTIONS).min(super::open_files_max()?);
    let config = fill(include_str!("../../configs/nginx.conf"), address, setting, CONNECTIONS);
    let file = write_config(setting.folder, "nginx.conf", &config.replace("@FILES@", &files.to_string()))?;
    let mut command = installed(Kind::Nginx)?;
    command.arg("-e").arg(setting.folder.join("nginx-start.log")).arg("-p").arg(setting.folder).arg("-c").arg(file);
    Ok(command)
}

fn haproxy(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let config = fill(include_str!("../../configs/haproxy.cfg"), address, setting, HAPROXY_CONNECTIONS);
    let file = write_config(setting.folder, "haproxy.cfg", &config)?;
    let mut command = installed(Kind::HaProxy)?;
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn envoy(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let config = fill(include_str!("../../configs/envoy.yaml"), address, setting, CONNECTIONS);
    let file = write_config(setting.folder, "envoy.yaml", &config)?;
    let mut command = installed(Kind::Envoy)?;
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path"]).arg(file);
    Ok(command)
}

fn caddy(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let config = fill(include_str!("../../configs/Caddyfile"), address, setting, CONNECTIONS);
    let file = write_config(setting.folder, "Caddyfile", &config)?;
    let mut command = installed(Kind::Caddy)?;
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    // Where it would keep certificates, if it had any.
    for folder in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(folder, setting.folder);
    }
    command.env("GOMAXPROCS", "1");
    Ok(command)
}

fn fill(template: &str, address: SocketAddr, setting: &Setting<'_>, connections: usize) -> String {
    let mut text = template.replace("@CONNECTIONS@", &connections.to_string());
    for (name, address) in
        [("LISTEN", address), ("UPSTREAM_1", setting.upstreams[0]), ("UPSTREAM_2", setting.upstreams[1])]
    {
        text = text.replace(&format!("@{name}_HOST@"), &address.ip().to_string());
        text = text.replace(&format!("@{name}_PORT@"), &address.port().to_string());
        text = text.replace(&format!("@{name}@"), &address.to_string());
    }
    text.replace("@DIR@", &setting.folder.display().to_string())
}

fn write_config(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    Ok(file)
}

fn installed(kind: Kind) -> anyhow::Result<Command> {
    let program = machine::find(kind.name());
    Ok(Command::new(program.with_context(|| format!("{} is not installed; run: bench --install", kind.name()))?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{pin::Cores, snapshot::Known};

    #[test]
    fn no_configuration_has_a_name_left_in_it() {
        let upstreams = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let cores = Cores { gateway: 0, load: 1 };
        let (folder, balance) = (Path::new("/folder"), Path::new("balance"));
        let setting = Setting { upstreams, folder, cores, balance, known: Known::default() };
        for template in [
            include_str!("../../configs/nginx.conf"),
            include_str!("../../configs/haproxy.cfg"),
            include_str!("../../configs/envoy.yaml"),
            include_str!("../../configs/Caddyfile"),
        ] {
            let filled = fill(template, ([127, 0, 0, 1], 8080).into(), &setting, 7).replace("@FILES@", "7");
            let settings: Vec<&str> = filled.lines().filter(|line| !line.starts_with('#')).collect();
            // Envoy's `"@type"` is the one other use of the sign.
            let settings = settings.join("\n").replace("\"@type\"", "");
            assert!(!settings.contains('@') && settings.contains("8080"), "{settings}");
        }
    }
}
