package catalog

import (
	"database/sql"
	"errors"
)

// Setting returns what SetSetting kept under a name; ok is false if nothing.
func (tx *Tx) Setting(name string) (value []byte, ok bool, err error) {
	err = tx.queryRow("SELECT value FROM settings WHERE name = $1", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// SetSetting keeps a text of any length under a name.
func (tx *Tx) SetSetting(name string, value []byte) error {
	_, err := tx.exec(`INSERT INTO settings (name, value, updated_at) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at`,
		name, string(value), tx.Now.UnixMicro())
	return err
}
