#!/bin/sh
# Installs what Muster needs beside a Rust toolchain, with the system's package manager; says what it does.
#
#   prerequisites.sh run    etcd, protoc                                  (for `make run`)
#   prerequisites.sh test   the same, MariaDB, dig, Prometheus, VictoriaMetrics, nginx, Node.js, iproute2, Python with the packages that
#                           tests need, cargo-nextest, cargo-deny (for `make test`); on Debian musl, dnsmasq and unbound, without
#                           which the test of resolvers is skipped
#
# What is there already is left alone, whatever its version.
set -eu

purpose=${1:-run}

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
say() { printf 'muster: %s\n' "$*"; }
give_up() { printf 'muster: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else give_up "root is needed for: $*"
    fi
}

# What each package manager calls the things we need. protoc alone is not enough: the well-known types are separate.
packages_for() {
    case "$1:$2" in
        apt:etcd) echo etcd-server etcd-client ;;
        apt:protoc) echo protobuf-compiler libprotobuf-dev ;;
        apt:mariadb) echo mariadb-server ;;
        apt:cc) echo gcc libc6-dev ;;
        apt:victoriametrics) echo victoria-metrics ;;
        apt:python) echo python3 python3-venv ;;
        *:node) echo nodejs ;;
        *:ip) echo iproute2 ;;
        dnf:python | apk:python) echo python3 ;;
        apt:dig) echo bind9-dnsutils ;;
        apt:musl) echo musl-tools ;;
        apt:dnsmasq) echo dnsmasq-base ;;
        dnf:protoc) echo protobuf-compiler protobuf-devel ;;
        dnf:mariadb) echo mariadb-server ;;
        dnf:dig) echo bind-utils ;;
        apk:protoc) echo protobuf-dev ;;
        apk:etcd) echo etcd etcd-ctl ;;
        apk:mariadb) echo mariadb ;;
        apk:dig) echo bind-tools ;;
        apk:cc) echo build-base ;;
        pacman:dig | brew:dig) echo bind ;;
        pacman:protoc | brew:protoc) echo protobuf ;;
        *:cc) echo gcc ;;
        *) echo "$2" ;;
    esac
}

missing=
need() { # thing, command that shows that it is there
    have "$2" || missing="$missing $1"
}
need cc cc
need etcd etcd
need protoc protoc
if [ "$purpose" = test ]; then
    need mariadb mariadbd
    need dig dig
    if have apt-get; then
        need musl musl-gcc
        need dnsmasq dnsmasq
        need unbound unbound
    fi
    need prometheus prometheus
    need victoriametrics victoria-metrics
    need nginx nginx
    need node node
    # Hosts of a test are network namespaces, which only Linux has.
    [ "$(uname)" != Linux ] || need ip ip
    need python python3
    if have python3 && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing="$missing python"; fi
fi

if [ -n "$missing" ]; then
    for manager in apt-get dnf apk pacman brew none; do have "$manager" && break; done
    [ "$manager" != none ] || give_up "no package manager that this script knows; please install:$missing"
    packages=
    for thing in $missing; do packages="$packages $(packages_for "${manager%-get}" "$thing")"; done
    say "installing$packages with $manager"
    # shellcheck disable=SC2086 # one word a package is what is wanted
    case $manager in
        apt-get)
            as_root apt-get update -qq || say "the package lists could not be renewed; going on with the old ones"
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages ;;
        dnf) as_root dnf install -y -q $packages ;;
        apk) as_root apk add -q $packages ;;
        pacman) as_root pacman -S --needed --noconfirm $packages ;;
        brew) brew install $packages ;;
    esac
    # Distributions start what they install. The suite starts its own members; a second etcd would only hold the port.
    if [ -d /run/systemd/system ]; then
        for thing in $missing; do
            case $thing in etcd | mariadb | prometheus | nginx | unbound) as_root systemctl disable --now "$thing" >/dev/null 2>&1 || true ;;
                victoriametrics) as_root systemctl disable --now victoria-metrics >/dev/null 2>&1 || true ;; esac
        done
    fi
    for thing in $missing; do
        case $thing in mariadb) command=mariadbd ;; victoriametrics) command=victoria-metrics ;; python) command=python3 ;; musl) command=musl-gcc ;; *) command=$thing ;; esac
        have "$command" || give_up "$command is still missing after the installation of$packages"
    done
fi

if [ "$purpose" = test ]; then
    for tool in cargo-nextest cargo-deny; do
        have "$tool" || { say "installing $tool (once)"; cargo install --locked "$tool"; }
    done

    # Programs of others that tests run against our services, in an environment of their own.
    environment=${CARGO_TARGET_DIR:-target}/python
    wanted=crates/registry/tests/python/requirements.txt
    if ! cmp -s "$wanted" "$environment/installed.txt"; then
        say "installing what $wanted names into $environment"
        python3 -m venv "$environment"
        "$environment/bin/pip" install -q --disable-pip-version-check -r "$wanted"
        cp "$wanted" "$environment/installed.txt"
    fi
fi
