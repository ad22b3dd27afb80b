package catalog

import (
	"database/sql"
	"errors"
	"time"

	"kvol/internal/block"
)

// KvolToken is a token of the kvol API, known by its hash only.
type KvolToken struct {
	Hash      string // hex SHA-256
	User      string
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// kvolTokensKept is how many tokens one user of the kvol API may have; the
// oldest go first.
const kvolTokensKept = 1000

// KvolUsers returns the users of the kvol API with their password hashes.
func (tx *Tx) KvolUsers() (map[string]string, error) {
	rows, err := tx.query(`SELECT name, password_hash FROM kvol_users`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var name, hash string
		if err := rows.Scan(&name, &hash); err != nil {
			return nil, err
		}
		all[name] = hash
	}
	return all, rows.Err()
}

// KvolUser returns a user's password hash; NotFound if there is none.
func (tx *Tx) KvolUser(name string) (hash string, err error) {
	err = tx.queryRow(`SELECT password_hash FROM kvol_users WHERE name = $1`, name).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", block.Errorf(block.NotFound, "Could not find user: %s.", name)
	}
	return hash, err
}

// PutKvolUser makes a user of the kvol API or gives it another password, which
// ends its tokens.
func (tx *Tx) PutKvolUser(name, hash string) error {
	if _, err := tx.exec(`DELETE FROM kvol_tokens WHERE user_name = $1`, name); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO kvol_users (name, password_hash) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash`, name, hash)
	return err
}

// DeleteKvolUser removes a user of the kvol API with its tokens.
func (tx *Tx) DeleteKvolUser(name string) error {
	if _, err := tx.exec(`DELETE FROM kvol_tokens WHERE user_name = $1`, name); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM kvol_users WHERE name = $1`, name)
	return err
}

// InsertKvolToken keeps a token of the kvol API.
func (tx *Tx) InsertKvolToken(t KvolToken) error {
	_, err := tx.exec(`INSERT INTO kvol_tokens (hash, user_name, issued_at, expires_at) VALUES ($1, $2, $3, $4)`,
		t.Hash, t.User, t.IssuedAt.UnixMicro(), t.ExpiresAt.UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM kvol_tokens WHERE user_name = $1 AND issued_at < (SELECT issued_at FROM kvol_tokens
		WHERE user_name = $1 ORDER BY issued_at DESC LIMIT 1 OFFSET $2)`, t.User, kvolTokensKept-1)
	return err
}

// KvolToken returns the token of a hash; NotFound if there is none or it
// expired.
func (tx *Tx) KvolToken(hash string) (KvolToken, error) {
	var (
		t               = KvolToken{Hash: hash}
		issued, expires int64
	)
	err := tx.queryRow(`SELECT user_name, issued_at, expires_at FROM kvol_tokens
		WHERE hash = $1 AND expires_at > $2`, hash, tx.Now.UnixMicro()).Scan(&t.User, &issued, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return KvolToken{}, block.Errorf(block.NotFound, "no such token")
	}
	t.IssuedAt, t.ExpiresAt = time.UnixMicro(issued).UTC(), time.UnixMicro(expires).UTC()
	return t, err
}
