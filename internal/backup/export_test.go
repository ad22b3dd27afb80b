package backup

import "kvol/internal/block"

// Beginning is what an attempt at a backup leaves that has dealt with all that
// another backup has.
func Beginning(like *Manifest, id block.BackupID) []byte {
	m := *like
	m.Backup, m.unfinished, m.Root = id, true, Hash{}
	p, err := m.encode()
	if err != nil {
		panic(err)
	}
	return p
}
