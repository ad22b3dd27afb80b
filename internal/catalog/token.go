package catalog

import (
	"database/sql"
	"encoding/json"
	"errors"
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
	methods, err := json.Marshal(t.Methods)
	if err != nil {
		return err
	}
	audit, err := json.Marshal(t.AuditIDs)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO tokens (hash, user_id, project_id, methods, audit_ids, issued_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, t.Hash, string(t.User), string(t.Project), string(methods), string(audit),
		t.IssuedAt.UnixMicro(), t.ExpiresAt.UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM tokens WHERE user_id = $1 AND issued_at < (SELECT issued_at FROM tokens
		WHERE user_id = $1 ORDER BY issued_at DESC LIMIT 1 OFFSET $2)`, string(t.User), tokensKept-1)
	return err
}

// Token returns the token of a hash; NotFound if there is none or it expired.
func (tx *Tx) Token(hash string) (Token, error) {
	var (
		t               = Token{Hash: hash}
		methods, audit  string
		issued, expires int64
	)
	err := tx.queryRow(`SELECT user_id, project_id, methods, audit_ids, issued_at, expires_at FROM tokens
		WHERE hash = $1 AND expires_at > $2`, hash, tx.Now.UnixMicro()).
		Scan(&t.User, &t.Project, &methods, &audit, &issued, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, block.Errorf(block.NotFound, "Failed to validate token")
	}
	if err != nil {
		return Token{}, err
	}
	if err := json.Unmarshal([]byte(methods), &t.Methods); err != nil {
		return Token{}, err
	}
	if err := json.Unmarshal([]byte(audit), &t.AuditIDs); err != nil {
		return Token{}, err
	}
	t.IssuedAt, t.ExpiresAt = time.UnixMicro(issued).UTC(), time.UnixMicro(expires).UTC()
	return t, nil
}

// DeleteToken revokes a token; doing so again changes nothing.
func (tx *Tx) DeleteToken(hash string) error {
	_, err := tx.exec(`DELETE FROM tokens WHERE hash = $1`, hash)
	return err
}

// DeleteTokensOf revokes all tokens of a user.
func (tx *Tx) DeleteTokensOf(user block.UserID) error {
	_, err := tx.exec(`DELETE FROM tokens WHERE user_id = $1`, string(user))
	return err
}

// SweepTokens removes what has expired, of the kvol API's tokens too.
func (tx *Tx) SweepTokens() error {
	for _, statement := range []string{
		`DELETE FROM tokens WHERE expires_at <= $1`,
		`DELETE FROM kvol_tokens WHERE expires_at <= $1`,
	} {
		if _, err := tx.exec(statement, tx.Now.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}
