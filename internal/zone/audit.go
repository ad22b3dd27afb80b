package zone

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// auditFiles writes files of the audit log into a directory, which is made when
// the first is. A file is there whole or not at all.
func auditFiles(dir string) func(string, func(io.Writer) error) error {
	return func(name string, write func(io.Writer) error) error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.Base(name))
		f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := write(f); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}
}
