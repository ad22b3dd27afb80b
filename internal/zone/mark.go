package zone

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// marked makes sure that the directory of an embedded store is the one that the
// zone has used until now. With processes on several machines each has a directory
// of that name, and a volume must not be looked for in an empty one. A store gets
// its mark, in a file beside it and in the catalog, when it is first opened by one
// of several processes.
func (s *Server) marked(ctx context.Context, c StoreConfig) error {
	path := c.Dir + ".mark"
	here, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var used bool
	var mark []byte
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		var err error
		if mark, _, err = tx.Setting(markSetting + c.Name); err != nil {
			return err
		}
		uses, err := tx.BackendUses()
		used = slices.ContainsFunc(uses, func(u catalog.BackendUse) bool {
			b, ok := s.cfg.backendNamed(u.Backend)
			return ok && b.Store == c.Name
		})
		return err
	})
	switch {
	case err != nil:
		return err
	case len(mark) > 0 && string(mark) == string(here):
		return nil
	case len(mark) > 0, used && empty(c.Dir):
		return errOther(c)
	}
	if len(here) == 0 {
		here = []byte(block.NewID())
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return err
		}
		if err := writeDurably(path, here); err != nil {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.SetSetting(markSetting+c.Name, here) })
}

// sameKey makes sure that all processes of the zone have one key: what one sealed or
// named, the others open.
func (m *Member) sameKey(ctx context.Context, key [32]byte) error {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("zone key"))
	print := []byte(hex.EncodeToString(mac.Sum(nil)))
	return m.catalog.Update(ctx, func(tx *catalog.Tx) error {
		have, ok, err := tx.Setting("zone_key")
		switch {
		case err != nil:
			return err
		case !ok:
			return tx.SetSetting("zone_key", print)
		case !hmac.Equal(have, print):
			return block.Errorf(block.Conflict, "%s is not the key of the zone's other processes: copy theirs, or let "+
				"shared_dir be one directory of all", filepath.Join(m.cfg.SharedDir, "zone.key"))
		}
		return nil
	})
}

// markSetting and a store's name are the setting that has its mark.
const markSetting = "store_mark."

// empty reports whether a directory has nothing in it, or is not there.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}
