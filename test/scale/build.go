package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

const (
	here, there = "here", "there"

	batch = 5000 // rows in a transaction
)

// The types of volumes: one that is replicated, and one that several backends
// hold.
const (
	safeType = "11111111-1111-4111-8111-111111111111"
	wideType = "22222222-2222-4222-8222-222222222222"
)

// lab is a zone of a size, and a second one that it replicates to.
type lab struct {
	size
	paper   *paper
	path    string // of the catalog
	seen    *statements
	catalog *catalog.Catalog
	target  *catalog.Catalog
	stores  *driver.Set
	backups *driver.Set
	rules   *control.Service
	ids     []block.VolumeID // some of them
	safe    []block.TypeID   // of the volumes that are replicated, by turns
	policy  block.Protection
	sending func() []linkStatus // nil before replication runs
}

func (l *lab) close() error {
	return errors.Join(l.catalog.Close(), l.target.Close())
}

func project(i int) block.ProjectID { return block.ProjectID(fmt.Sprintf("%032x", i)) }

// owner is the project of the i-th volume: the first one has a tenth of all.
func (l *lab) owner(i int) block.ProjectID {
	if i%10 == 0 {
		return project(0)
	}
	return project(1 + i%max(1, l.projects-1))
}

// build makes the zone. Volumes come in the order in which tenants would make
// them, through the catalog's own calls.
func build(ctx context.Context, s size, dir string, p *paper) (l *lab, err error) {
	l = &lab{size: s, paper: p, path: filepath.Join(dir, "here.db"), seen: &statements{}, safe: []block.TypeID{safeType}}
	l.policy = block.Protection{Seq: 1, SourceZone: here, SourceType: safeType, Destination: there, Enabled: true,
		Backup: block.Backend{Name: "backup"}, Interval: time.Second}
	if err := l.bulk(ctx); err != nil {
		return nil, err
	}
	if l.catalog, err = catalog.Open(ctx, catalog.Options{Path: l.path, Observe: l.seen.saw}); err != nil {
		return nil, err
	}
	there := catalog.Options{Path: filepath.Join(dir, "there.db"), Observe: l.seen.saw}
	if l.target, err = catalog.Open(ctx, there); err != nil {
		return nil, errors.Join(err, l.catalog.Close())
	}
	if err := l.fill(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// bulk makes a catalog with most of the volumes; the others are inserted.
func (l *lab) bulk(ctx context.Context) error {
	c, err := catalog.Open(ctx, catalog.Options{Path: l.path})
	if err != nil {
		return err
	}
	l.catalog = c
	if err := errors.Join(l.types(ctx), c.Close()); err != nil || l.volumes <= l.inserted() {
		return err
	}
	began, n := time.Now(), l.volumes-l.inserted()
	empty, err := bytesOf(ctx, l.path)
	if err != nil {
		return err
	}
	if err := bulk(ctx, l.path, n, l.projects); err != nil {
		return err
	}
	full, err := bytesOf(ctx, l.path)
	if err != nil {
		return err
	}
	l.paper.note("a volume's row with its indexes", (full-empty)/int64(n), "bytes")
	l.paper.note("making the catalog", fmt.Sprintf("%.0f", time.Since(began).Seconds()), "s")
	return nil
}

// inserted is how many volumes are made by the catalog's own calls: those that are
// protected, and some for a measure.
func (l *lab) inserted() int { return min(l.volumes, l.protected+l.sample) }

func (l *lab) fill(ctx context.Context) (err error) {
	stores, backends := map[string]driver.Driver{}, []block.Backend{}
	rules := map[string]control.PlaceRules{}
	for i := range 8 {
		name := fmt.Sprintf("wide-%d", i)
		stores[name] = mem.New(mem.Options{Capacity: 1 << 60})
		backends = append(backends, block.Backend{Name: name, Store: name})
		rules[name] = control.PlaceRules{Name: "wide", Ratio: 20}
	}
	stores["safe"] = mem.New(mem.Options{})
	backends = append(backends, block.Backend{Name: "safe", Store: "safe"})
	if l.stores, err = driver.NewSet(stores, backends); err != nil {
		return err
	}
	l.backups, err = driver.NewSet(map[string]driver.Driver{"backup": mem.New(mem.Options{})},
		[]block.Backend{{Name: "backup", Store: "backup"}})
	if err != nil {
		return err
	}
	if err := l.insert(ctx); err != nil {
		return err
	}
	dr := control.DR{Replicating: l.status}
	l.rules, err = control.New(control.Config{Catalog: l.catalog, Backends: l.stores, Zone: here, Region: here,
		DefaultType: "wide", AvailabilityZones: []string{"z"}, Key: [32]byte{1}, Placing: control.Placing{Backends: rules},
		Protections: l.policies, DR: dr, TempDir: filepath.Join(filepath.Dir(l.path), "tmp")})
	return err
}

func (l *lab) policies() []block.Protection { return []block.Protection{l.policy} }

func (l *lab) types(ctx context.Context) error {
	return l.catalog.Update(ctx, func(tx *catalog.Tx) error {
		return errors.Join(
			tx.UpsertType(block.VolumeType{ID: safeType, Name: "safe", Public: true,
				ExtraSpecs: map[string]string{"volume_backend_name": "safe"}}),
			tx.UpsertType(block.VolumeType{ID: wideType, Name: "wide", Public: true,
				ExtraSpecs: map[string]string{"volume_backend_name": "wide"}}))
	})
}

// insert adds the volumes: the protected ones have bytes in their store.
func (l *lab) insert(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 2))
	safe, err := l.stores.Of("safe")
	if err != nil {
		return err
	}
	began, used, n := time.Now(), processor(), l.inserted()
	for from := 0; from < n; from += batch {
		err := l.catalog.Update(ctx, func(tx *catalog.Tx) error {
			for i := from; i < min(from+batch, n); i++ {
				name := fmt.Sprintf("volume-%07d", random.IntN(10_000_000))
				v := block.Volume{
					ID:                block.VolumeID(block.NewID()),
					Project:           l.owner(i),
					User:              "u",
					Name:              &name,
					Size:              1 + int64(i%100),
					Status:            block.VolumeAvailable,
					TypeID:            wideType,
					Backend:           fmt.Sprintf("wide-%d", i%8),
					AvailabilityZone:  "z",
					Epoch:             1,
					ReplicationStatus: block.ReplicationDisabled,
					Metadata:          map[string]string{},
				}
				if i < l.protected {
					v.TypeID, v.Backend, v.Size, v.ReplicationStatus = l.safe[i%len(l.safe)], "safe", 1, block.ReplicationEnabled
					if err := safe.CreateVolume(ctx, v.ID, block.GiB); err != nil {
						return err
					}
				}
				if i%max(1, n/1000) == 0 {
					l.ids = append(l.ids, v.ID)
				}
				if err := tx.InsertVolume(v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	l.paper.note("inserting a volume, in transactions of 5,000", milliseconds(time.Since(began)/time.Duration(n)), "ms")
	l.paper.note("processor for that", milliseconds((processor()-used)/time.Duration(n)), "ms")
	return nil
}
