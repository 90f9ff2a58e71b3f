#!/bin/bash
# The first start of a data directory makes the accounts and the database that the
# official image would make: MYSQL_ROOT_PASSWORD, MYSQL_DATABASE, MYSQL_USER,
# MYSQL_PASSWORD, then /docker-entrypoint-initdb.d/*.sql and *.sh in order.
set -euo pipefail

datadir=/var/lib/mysql
socket=/var/run/mysqld/mysqld.sock

[[ ${1:-} != -* ]] || set -- mysqld "$@"
[[ ${1:-} == mysqld ]] || exec "$@"
shift

as_mysql=()
if [[ $(id -u) == 0 ]]; then
    chown -R mysql:mysql "$datadir" /var/run/mysqld
    as_mysql=(setpriv --reuid=mysql --regid=mysql --init-groups)
fi
where=(--datadir="$datadir" --socket="$socket" --secure-file-priv=NULL)

# ' and \ doubled, for a string between single quotes
quoted() { sed "s/['\\\\]/&&/g" <<<"$1"; }

first_start() {
    local client=(mysql --protocol=socket --socket="$socket" --user=root) script pid i
    "${as_mysql[@]}" mysqld "${where[@]}" "$@" --initialize-insecure
    # No network before everything is there: who can connect finds it complete.
    "${as_mysql[@]}" mysqld "${where[@]}" "$@" --skip-networking --mysqlx=OFF &
    pid=$!
    for ((i = 0; i < 600; i++)); do
        ! "${client[@]}" -e 'SELECT 1' >/dev/null 2>&1 || break
        kill -0 "$pid" || exit 1
        sleep 0.1
    done
    {
        if [[ -n ${MYSQL_DATABASE:-} ]]; then
            echo "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
        fi
        if [[ -n ${MYSQL_USER:-} && ${MYSQL_USER:-} != root ]]; then
            echo "CREATE USER '$(quoted "$MYSQL_USER")'@'%' IDENTIFIED BY '$(quoted "${MYSQL_PASSWORD:-}")';"
            [[ -z ${MYSQL_DATABASE:-} ]] || echo "GRANT ALL ON \`${MYSQL_DATABASE//_/\\_}\`.* TO '$(quoted "$MYSQL_USER")'@'%';"
        fi
    } | "${client[@]}"
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sql) "${client[@]}" ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} <"$script" ;;
            *.sh) bash "$script" ;;
        esac
    done
    if [[ -n ${MYSQL_ROOT_PASSWORD:-} ]]; then
        "${client[@]}" -e "CREATE USER 'root'@'%' IDENTIFIED BY '$(quoted "$MYSQL_ROOT_PASSWORD")';
            GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
            ALTER USER 'root'@'localhost' IDENTIFIED BY '$(quoted "$MYSQL_ROOT_PASSWORD")';"
    fi
    kill "$pid"
    wait "$pid"
    rm "$datadir/.first-start"
}

# A first start that was cut short begins again; any other data is left alone.
if [[ -e $datadir/.first-start ]]; then
    find "$datadir" -mindepth 1 -delete
fi
if [[ ! -d $datadir/mysql ]]; then
    [[ -n ${MYSQL_ROOT_PASSWORD:-}${MYSQL_ALLOW_EMPTY_PASSWORD:-} ]] || {
        echo 'set MYSQL_ROOT_PASSWORD or MYSQL_ALLOW_EMPTY_PASSWORD' >&2
        exit 1
    }
    touch "$datadir/.first-start"
    first_start "$@"
fi
exec "${as_mysql[@]}" mysqld "${where[@]}" "$@"
