package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
)

// operator may see all.
var operator = block.Caller{Project: project(1), User: "root", Roles: []string{"admin"}}

// health asks both ends how well everything could be recovered, as the watchdog,
// the metrics and operators do. Nothing is sent meanwhile, so that all that is
// counted is what the question takes.
func (l *lab) health(ctx context.Context) error {
	var ahead atomic.Int64 // answers are good for a second: each is asked for in another one
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	service := func(zone block.Zone, c *catalog.Catalog, stores *driver.Set) (*control.Service, error) {
		own := func() []block.Protection {
			if zone != here {
				return nil
			}
			return l.policies()
		}
		return control.New(control.Config{Catalog: c, Backends: stores, Zone: zone, Region: string(zone), Key: [32]byte{1},
			Protections: own, DR: control.DR{Replicating: l.status}, Now: now,
			TempDir: filepath.Join(filepath.Dir(l.path), "tmp")})
	}
	source, err := service(here, l.catalog, l.stores)
	if err != nil {
		return err
	}
	target, err := service(there, l.target, l.backups)
	if err != nil {
		return err
	}
	told, err := source.Document(ctx)
	if err != nil {
		return err
	}
	if _, err := target.ExchangeDocument(ctx, here, told); err != nil {
		return err
	}
	nothing := func(int) error { return nil }
	for _, end := range []struct {
		name    string
		of      *control.Service
		changes func(int) error
	}{
		{"the source", source, nothing},
		{"the target", target, nothing},
		{"the target with a new point each", target, func(int) error { return newer(ctx, filepath.Dir(l.path)) }},
	} {
		err := l.timesAfter("assessing the health of all links at "+end.name, max(2, l.rounds/20), func(i int) error {
			ahead.Add(int64(2 * time.Second))
			return end.changes(i)
		}, func(int) error { return l.wantHealth(ctx, end.of) })
		if err != nil {
			return err
		}
	}
	for name, s := range map[string]*control.Service{"source": source, "target": target} {
		err := l.times("a visit of the doctor at the "+name, 1, func(int) error {
			_, err := s.Doctor(ctx, operator)
			return err
		})
		if err != nil {
			return err
		}
		err = l.times("writing down what was measured of all links at the "+name, 1, func(int) error {
			over, end := context.WithCancel(ctx)
			end() // the watchdog writes it down when it is told to go
			return s.RunHealth(over)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wantHealth asks, and fails where something is left out.
func (l *lab) wantHealth(ctx context.Context, of *control.Service) error {
	h, err := of.Health(ctx, operator)
	if err != nil {
		return err
	}
	if len(h.Pairs) != 1 || len(h.Volumes) != l.protected {
		return fmt.Errorf("the health is of %d pairs and %d volumes", len(h.Pairs), len(h.Volumes))
	}
	for _, v := range h.Volumes {
		if v.Point.ID == "" || v.Project == "" || v.Name == "" {
			return fmt.Errorf("of a volume only this is known: %+v", v)
		}
	}
	return nil
}

// newer has all replicas look as if each got a point. It goes past the catalog, so
// that it is not counted.
func newer(ctx context.Context, dir string) (err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "there.db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "UPDATE replicas SET updated_at = updated_at + 1")
	return err
}
