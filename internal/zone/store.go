package zone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/elsewhere"
	"kvol/internal/driver/fenced"
	"kvol/internal/driver/logstore"
	"kvol/internal/driver/mem"
	"kvol/internal/driver/nfs"
	"kvol/internal/driver/rbd"
	"kvol/internal/upkeep"
)

// openStores opens every configured store; those of env.Stores are taken as
// they are.
func (s *Server) openStores(ctx context.Context) error {
	c := s.cfg
	stores := map[string]driver.Driver{}
	closeAll := func() {
		for _, d := range stores {
			_ = d.Close() // the error that led here is the one to tell
		}
	}
	for _, sc := range c.Stores {
		if d, ok := s.env.Stores[sc.Name]; ok {
			stores[sc.Name] = d
			continue
		}
		if s.follows() {
			stores[sc.Name] = elsewhere.Store{Name: sc.Name, Room: s.of.room}
			continue
		}
		d, err := s.openStore(ctx, sc)
		if err != nil {
			closeAll()
			return fmt.Errorf("store %s: %w", sc.Name, err)
		}
		stores[sc.Name] = d
	}
	backends := make([]block.Backend, 0, len(c.Backends))
	for _, b := range c.Backends {
		backends = append(backends, b.backend())
	}
	set, err := driver.NewSet(stores, backends)
	if err != nil {
		closeAll()
		return err
	}
	s.stores = set
	s.upkeep = upkeep.New(upkeep.Config{Catalog: s.catalog, Stores: stores, Now: s.env.Now, Log: s.log})
	return nil
}

func (s *Server) openStore(ctx context.Context, c StoreConfig) (driver.Driver, error) {
	switch c.Driver {
	case "mem":
		return mem.New(mem.Options{}), nil
	case "logstore":
		known, err := s.ledger.Known(ctx, c.Name)
		if err == nil && s.of != nil {
			err = s.marked(ctx, c)
		}
		if err != nil {
			return nil, err
		}
		store, err := logstore.Open(ctx, logstore.Options{Dir: c.Dir, SegmentSize: c.SegmentMiB << 20,
			CacheBytes: c.CacheMiB << 20, MaxBytes: c.MaxGiB << 30, ScrubRate: c.ScrubMiB << 20,
			Known: known, Alarm: s.ledger.Alarm(c.Name), Healer: s.heal, Holder: s.holder(c.Name),
			Log: s.env.Log.With("store", c.Name), Now: s.env.Now})
		if err != nil {
			return nil, err // and no store in an interface
		}
		return store, nil
	case "rbd":
		o := rbd.Options{Conf: c.RBD.Conf, User: c.RBD.User, Pool: c.RBD.Pool,
			Namespace: c.RBD.Namespace, Timeout: c.RBD.Timeout, IOTimeout: c.RBD.IOTimeout, Several: s.of != nil,
			Owner: c.Name + " of zone " + string(s.cfg.Zone),
			Log:   s.env.Log.With("store", c.Name), Now: s.env.Now}
		if h := c.RBD.Hosts; h != nil {
			o.Hosts = &rbd.Hosts{User: h.User, Secret: h.SecretUUID, Cluster: h.Cluster}
		}
		if s.turn != nil {
			o.InTurn = func(ctx context.Context, do func() error) error { return fenced.In(ctx, s.turn, do) }
		}
		store, err := rbd.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		return s.fence(ctx, store), nil
	case "nfs":
		o := c.NFS.options(c.Dir)
		o.Log, o.Now = s.env.Log.With("store", c.Name), s.env.Now
		store, err := nfs.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		return s.fence(ctx, store), nil
	}
	return nil, fmt.Errorf("there is no driver %q", c.Driver)
}

// reached reports whether other processes of the zone can change the store while one
// has it open. Those of others are kept by a lock, or are in a process's memory.
func (c StoreConfig) reached() bool { return c.Driver == "rbd" || c.Driver == "nfs" }

// fence lets a store that other processes reach be changed only while this process
// leads the zone.
func (s *Server) fence(ctx context.Context, d fenced.Inner) driver.Driver {
	if s.turn == nil {
		return d
	}
	return fenced.New(ctx, d, s.turn)
}

// holder says who has a store open, for whoever finds it locked.
func (s *Server) holder(store string) string {
	if s.of != nil {
		return fmt.Sprintf("zone %s, process %s (pid %d), as store %q; ask it at %s", s.cfg.Zone, s.cfg.Process.Name,
			os.Getpid(), store, s.URL())
	}
	return fmt.Sprintf("zone %s, as store %q; ask it at %s", s.cfg.Zone, store, s.URL())
}

// heal is the stores' healer. They are open before there is anybody to ask.
func (s *Server) heal(ctx context.Context, want logstore.Lost) ([]byte, error) {
	if c := s.healer.Load(); c != nil {
		return c.Heal(ctx, want.Volumes, want.Off, want.CRC)
	}
	return nil, block.Errorf(block.Unavailable, "The zone is starting.")
}

// zoneKey reads the zone's key, from which the names of exports are derived,
// and makes it at the first start. Losing it closes the exports that were
// given out; hosts get new names when they connect again.
func zoneKey(dataDir string) (key [32]byte, err error) {
	path := filepath.Join(dataDir, "zone.key")
	text, err := os.ReadFile(path)
	if err == nil && len(text) == len(key) {
		return [32]byte(text), nil
	}
	if err == nil {
		return key, fmt.Errorf(
			"%s has %d bytes, not %d: restore it, or remove it to make a new key",
			path,
			len(text),
			len(key),
		)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	rand.Read(key[:])                 // never fails
	own := path + "." + block.NewID() // processes in containers have one pid, and one directory
	if err := writeDurably(own, key[:]); err != nil {
		return key, err
	}
	defer os.Remove(own)
	if err := os.Link(own, path); errors.Is(err, fs.ErrExist) {
		return zoneKey(dataDir) // another process of the zone was faster
	} else if err != nil {
		return key, err
	}
	return key, syncDir(dataDir)
}

// writeDurably writes a small secret file so that it is whole or absent after
// a power cut.
func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
