package catalog

import (
	"database/sql"
	"errors"
	"time"

	"kvol/internal/block"
)

// User is somebody who may log in.
type User struct {
	ID                block.UserID
	Name, Description string
	PasswordHash      string // argon2id in PHC form; "" for none, then nobody can log in
	Enabled           bool
	Configured        bool // named by the configuration
	CreatedAt         time.Time
}

const userColumns = `id, name, description, password_hash, enabled, configured, created_at`

func scanUser(row scanner) (User, error) {
	var u User
	err := row.Scan(&u.ID, &u.Name, &u.Description, &u.PasswordHash, &u.Enabled, &u.Configured, asTime(&u.CreatedAt))
	return u, err
}

// User returns a user; NotFound with Keystone's sentence.
func (tx *Tx) User(id block.UserID) (User, error) {
	return tx.userBy(`id`, string(id))
}

// UserNamed returns the user of a name; NotFound if there is none.
func (tx *Tx) UserNamed(name string) (User, error) {
	return tx.userBy(`name`, name)
}

func (tx *Tx) userBy(column, value string) (User, error) {
	u, err := scanUser(tx.queryRow(`SELECT `+userColumns+` FROM users WHERE `+column+` = $1`, value))
	return u, notFound(err, "Could not find user: %s.", value)
}

// Users returns all users, by name.
func (tx *Tx) Users() ([]User, error) {
	return collect(tx, scanUser, `SELECT `+userColumns+` FROM users ORDER BY name`)
}

// InsertUser adds a user; Conflict if the name is taken. CreatedAt is Now
// unless it is given.
func (tx *Tx) InsertUser(u User) error {
	if u.CreatedAt.IsZero() {
		u.CreatedAt = tx.Now
	}
	if err := tx.freeName("users", "user", string(u.ID), u.Name); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO users (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		u.ID, u.Name, u.Description, u.PasswordHash, u.Enabled, u.Configured, micros(u.CreatedAt))
	return err
}

// UpdateUser changes everything of a user but its id and the time it was made.
// Conflict if the name is another's.
func (tx *Tx) UpdateUser(u User) error {
	if err := tx.freeName("users", "user", string(u.ID), u.Name); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE users SET name = $2, description = $3, password_hash = $4, enabled = $5, configured = $6
		WHERE id = $1`, u.ID, u.Name, u.Description, u.PasswordHash, u.Enabled, u.Configured)
	return err
}

// DeleteUser removes a user with its roles and tokens; NotFound if it is gone.
func (tx *Tx) DeleteUser(id block.UserID) error {
	if _, err := tx.User(id); err != nil {
		return err
	}
	if err := tx.DeleteTokensOf(id); err != nil {
		return err
	}
	if err := tx.RevokeAll(id); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM users WHERE id = $1`, id)
	return err
}

// freeName refuses, as a Conflict, a name that a row of another id has. table
// is one of ours, never a user's text.
func (tx *Tx) freeName(table, noun, id, name string) error {
	var other string
	err := tx.queryRow(`SELECT id FROM `+table+` WHERE name = $1 AND id <> $2`, name, id).Scan(&other)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return block.Errorf(block.Conflict,
		"Conflict occurred attempting to store %s - Duplicate entry found with name %s at domain ID default.", noun, name)
}
