package upkeep

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

// Config is what a Service works with. Catalog and Stores are needed.
type Config struct {
	Catalog *catalog.Catalog
	Stores  map[string]driver.Driver // by name; those of other drivers are left out
	Now     func() time.Time         // time.Now if nil
	Log     *slog.Logger             // discarded if nil
}

// Service looks after the embedded stores of a zone. Its methods may be called
// at once from many goroutines. For whoever is no administrator they are
// Forbidden; a store or a run that is not there is NotFound.
type Service struct {
	cfg    Config
	stores map[string]*logstore.Store

	mu      sync.Mutex        // guards all below
	over    bool              // Run ended, and nothing begins any more
	running sync.WaitGroup    // runs that are under way
	runs    map[string][]*run // by store, from old to new
	last    int64             // id of a run
}

// New makes a Service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, stores: map[string]*logstore.Store{}, runs: map[string][]*run{}}
	for name, d := range cfg.Stores {
		if store, ok := driver.As[*logstore.Store](d); ok {
			s.stores[name] = store
		}
	}
	return s
}

// Run owns the checks and scrubs: when ctx ends, it ends those that are under
// way, and returns after the last one. The stores may be closed then.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	s.note(func() {
		s.over = true
		for _, list := range s.runs {
			for _, r := range list {
				r.cancelled = true
				r.cancel()
			}
		}
	})
	s.running.Wait()
	return nil
}

// Status and Examined are told as the engine tells them.
type (
	Status   = logstore.Status
	Examined = logstore.Examined
)

// Store is how one store is.
type Store struct {
	Name   string
	Status Status
	Run    *Run // that is under way, or the last one; nil for none since the start
}

func allow(c block.Caller) error {
	if !c.Admin() {
		return block.Errorf(block.Forbidden, "Only an administrator may see to the stores.")
	}
	return nil
}

func (s *Service) store(c block.Caller, name string) (*logstore.Store, error) {
	if err := allow(c); err != nil {
		return nil, err
	}
	store, ok := s.stores[name]
	if !ok {
		return nil, block.Errorf(block.NotFound, "The zone has no embedded store %q.", name)
	}
	return store, nil
}

// Stores lists the embedded stores by name.
func (s *Service) Stores(c block.Caller) ([]Store, error) {
	if err := allow(c); err != nil {
		return nil, err
	}
	all := make([]Store, 0, len(s.stores))
	for name, store := range s.stores {
		all = append(all, Store{Name: name, Status: store.Status(), Run: s.newest(name)})
	}
	slices.SortFunc(all, func(a, b Store) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Store returns one store.
func (s *Service) Store(c block.Caller, name string) (Store, error) {
	store, err := s.store(c, name)
	if err != nil {
		return Store{}, err
	}
	return Store{Name: name, Status: store.Status(), Run: s.newest(name)}, nil
}

// Damage is damage with the name of what it is in.
type Damage struct {
	block.Damage
	VolumeName string     // of a volume, or of the volume that a replica is a copy of
	Project    string     // whose volume that is
	ReplicaOf  block.Zone // the zone of the volume, where it is a replica
	Source     block.VolumeID
}

// Damages lists what is damaged in a store, the newest change first; with over
// also what was healed or is gone. At most 1,000.
func (s *Service) Damages(ctx context.Context, c block.Caller, name string, over bool) (all []Damage, err error) {
	if _, err := s.store(c, name); err != nil {
		return nil, err
	}
	err = s.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		rows, err := tx.Damages(name, over, maxListed)
		for _, row := range rows {
			all = append(all, withName(tx, row))
		}
		return err
	})
	return all, err
}

// withName finds the names that belong to damage; what is gone has none.
func withName(tx *catalog.Tx, d block.Damage) Damage {
	out := Damage{Damage: d}
	if v, err := tx.Volume(d.Volume); err == nil {
		out.VolumeName, out.Project = orEmpty(v.Name), string(v.Project)
	} else if r, err := tx.Replica(d.Volume); err == nil {
		out.VolumeName, out.Project = orEmpty(r.Entry.Volume.Name), string(r.Entry.Volume.Project)
		out.ReplicaOf, out.Source = r.SourceZone, r.Source
	}
	return out
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
