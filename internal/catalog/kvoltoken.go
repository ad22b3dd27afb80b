package catalog

import "time"

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
	type user struct{ name, hash string }
	users, err := collect(tx, func(row scanner) (u user, err error) {
		err = row.Scan(&u.name, &u.hash)
		return u, err
	}, `SELECT name, password_hash FROM kvol_users`)
	all := map[string]string{}
	for _, u := range users {
		all[u.name] = u.hash
	}
	return all, err
}

// KvolUser returns a user's password hash; NotFound if there is none.
func (tx *Tx) KvolUser(name string) (hash string, err error) {
	err = tx.queryRow(`SELECT password_hash FROM kvol_users WHERE name = $1`, name).Scan(&hash)
	return hash, notFound(err, "Could not find user: %s.", name)
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
		t.Hash, t.User, micros(t.IssuedAt), micros(t.ExpiresAt))
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
	t := KvolToken{Hash: hash}
	err := tx.queryRow(`SELECT user_name, issued_at, expires_at FROM kvol_tokens
		WHERE hash = $1 AND expires_at > $2`, hash, micros(tx.Now)).
		Scan(&t.User, asTime(&t.IssuedAt), asTime(&t.ExpiresAt))
	return t, notFound(err, "no such token")
}
