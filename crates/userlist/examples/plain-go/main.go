// Get and put of users with net/http and database/sql and nothing else: what userlist is measured beside (see ../load.rs).
// Built with Debian's packages: golang-go, golang-github-mattn-go-sqlite3-dev, golang-github-go-sql-driver-mysql-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o target/plain-go crates/userlist/examples/plain-go/main.go
//
// It is as durable as userlist (WAL with synchronous=FULL; InnoDB's default), has as many connections, prepares its
// statements, and keeps the same columns and indexes, because it works on a database that userlist has created. It has no
// deadlines, retries, conditions, validation, metrics, log, tokens, and no update of search keys.
package main

import (
	"database/sql"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3"
)

type user struct {
	ID         int64           `json:"id"`
	Name       string          `json:"name"`
	Email      string          `json:"email"`
	Status     string          `json:"status"`
	Tags       json.RawMessage `json:"tags"`
	Attributes json.RawMessage `json:"attributes"`
	Version    int64           `json:"version"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

type service struct{ find, change, create *sql.Stmt }

const columns = "id, name, email, status, tags, attributes, version, created_at, updated_at"

func (s *service) get(name string) (u user, err error) {
	var created, updated int64
	var tags, attributes []byte
	err = s.find.QueryRow(name).Scan(&u.ID, &u.Name, &u.Email, &u.Status, &tags, &attributes, &u.Version, &created, &updated)
	u.Tags, u.Attributes = orElse(tags, "[]"), orElse(attributes, "{}")
	u.CreatedAt, u.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return u, err
}

// The user is read, changed on condition of its version, and answered, as userlist does.
func (s *service) put(name, email string) (user, error) {
	for {
		now := time.Now().UTC().Truncate(time.Millisecond)
		u, err := s.get(name)
		if err == sql.ErrNoRows {
			if _, err = s.create.Exec(name, email, now.UnixMilli(), now.UnixMilli(), email); err == nil {
				return s.get(name)
			}
			return u, err
		} else if err != nil {
			return u, err
		}
		done, err := s.change.Exec(email, now.UnixMilli(), email, u.ID, u.Version)
		if err != nil {
			return u, err
		}
		if rows, _ := done.RowsAffected(); rows == 1 {
			u.Email, u.Version, u.UpdatedAt = email, u.Version+1, now
			return u, nil
		}
	}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/v1/users/")
	var u user
	var err error
	switch r.Method {
	case http.MethodGet:
		u, err = s.get(name)
	case http.MethodPut:
		var body struct{ Email string }
		if err = json.NewDecoder(r.Body).Decode(&body); err == nil {
			u, err = s.put(name, body.Email)
		}
	}
	if err == sql.ErrNoRows {
		http.NotFound(w, r)
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	} else {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(u)
	}
}

// Arguments: where to listen; sqlite3 or mysql; the driver's name of the database.
func main() {
	readers, err := sql.Open(os.Args[2], os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	readers.SetMaxOpenConns(10)
	readers.SetMaxIdleConns(10)
	writers := readers
	if os.Args[2] == "sqlite3" {
		if writers, err = sql.Open(os.Args[2], os.Args[3]); err != nil {
			log.Fatal(err)
		}
		writers.SetMaxOpenConns(1)
	}
	s := &service{
		find:   prepared(readers, "SELECT "+columns+" FROM users WHERE name = ?"),
		change: prepared(writers, "UPDATE users SET email = ?, version = version + 1, updated_at = ?, email_key = ? WHERE id = ? AND version = ?"),
		create: prepared(writers, "INSERT INTO users (name, email, created_at, updated_at, email_key) VALUES (?, ?, ?, ?, ?)"),
	}
	log.Fatal(http.ListenAndServe(os.Args[1], s))
}

func prepared(db *sql.DB, text string) *sql.Stmt {
	statement, err := db.Prepare(text)
	if err != nil {
		log.Fatal(err)
	}
	return statement
}

func orElse(json []byte, empty string) []byte {
	if json == nil {
		return []byte(empty)
	}
	return json
}
