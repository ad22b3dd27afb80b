package catalog

import (
	"fmt"
	"time"

	"kvol/internal/block"
)

// Token is a token of the identity service, known by its hash only.
type Token struct {
	Hash      string // hex SHA-256
	User      block.UserID
	Project   block.ProjectID // "" if unscoped
	Methods   []string
	AuditIDs  []string
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// tokensKept is how many tokens one user may have; the oldest go first.
const tokensKept = 10_000

// InsertToken keeps a token.
func (tx *Tx) InsertToken(t Token) error {
	_, err := tx.exec(`INSERT INTO tokens (hash, user_id, project_id, methods, audit_ids, issued_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, t.Hash, t.User, t.Project, jsonText(t.Methods), jsonText(t.AuditIDs),
		micros(t.IssuedAt), micros(t.ExpiresAt))
	if err != nil {
		return err
	}
	_, err = tx.exec(fmt.Sprintf(`DELETE FROM tokens WHERE user_id = $1 AND issued_at < (SELECT issued_at FROM tokens
		WHERE user_id = $1 ORDER BY issued_at DESC LIMIT 1 OFFSET %d)`, tokensKept-1), t.User)
	return err
}

// Token returns the token of a hash; NotFound if there is none or it expired.
func (tx *Tx) Token(hash string) (Token, error) {
	t := Token{Hash: hash}
	err := tx.queryRow(`SELECT user_id, project_id, methods, audit_ids, issued_at, expires_at FROM tokens
		WHERE hash = $1 AND expires_at > $2`, hash, micros(tx.Now)).
		Scan(&t.User, &t.Project, asJSON(&t.Methods), asJSON(&t.AuditIDs), asTime(&t.IssuedAt), asTime(&t.ExpiresAt))
	return t, notFound(err, "Failed to validate token")
}

// DeleteToken revokes a token; doing so again changes nothing.
func (tx *Tx) DeleteToken(hash string) error {
	_, err := tx.exec(`DELETE FROM tokens WHERE hash = $1`, hash)
	return err
}

// DeleteTokensOf revokes all tokens of a user.
func (tx *Tx) DeleteTokensOf(user block.UserID) error {
	_, err := tx.exec(`DELETE FROM tokens WHERE user_id = $1`, user)
	return err
}

// SweepTokens removes what has expired, of the kvol API's tokens too.
func (tx *Tx) SweepTokens() error {
	for _, statement := range []string{
		`DELETE FROM tokens WHERE expires_at <= $1`,
		`DELETE FROM kvol_tokens WHERE expires_at <= $1`,
	} {
		if _, err := tx.exec(statement, micros(tx.Now)); err != nil {
			return err
		}
	}
	return nil
}
