package control

import (
	"context"
	"log/slog"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/placement"
)

// Placing is how backends are chosen among.
type Placing struct {
	Weights  placement.Weights // the zero value: where most room is
	Attempts int               // backends on which a new volume is tried at most; 3 if 0
	// Backends says of backends what filters look at, by name.
	Backends map[string]PlaceRules
}

// PlaceRules say what may lie on a backend. The zero value: everything.
type PlaceRules struct {
	Name         string            // what types call it beside its name; several may share one
	Zones        []string          // availability zones that it is in; none for all
	Capabilities map[string]string // that it has beside those of all
	Reserved     int               // percents of its store that no volume may take
	Ratio        float64           // the volumes of its store may have so many times its room; 0 for no bound
	Auto         bool              // Ratio follows from how full volumes are
}

const defaultAttempts = 3

func (p Placing) weights() placement.Weights {
	if p.Weights == (placement.Weights{}) {
		return placement.Weights{Capacity: 1}
	}
	return p.Weights
}

func (p Placing) attempts() int {
	if p.Attempts == 0 {
		return defaultAttempts
	}
	return p.Attempts
}

// promises are what lies on each backend, and by store the GiB of all that lies
// or moves there.
func (s *Service) promises(tx *catalog.Tx) (of map[string]catalog.BackendRoom, stores map[string]int64, err error) {
	all, err := tx.BackendRooms()
	if err != nil {
		return nil, nil, err
	}
	of, stores = map[string]catalog.BackendRoom{}, map[string]int64{}
	for _, r := range all {
		b, _ := s.backends.Backend(r.Backend)
		of[r.Backend], stores[b.Store] = r, stores[b.Store]+r.GiB
	}
	for _, kind := range []string{jobVolumeMigrate, jobVolumeRetype} {
		jobs, err := tx.OpenJobs(kind)
		if err != nil {
			return nil, nil, err
		}
		for _, j := range jobs {
			var to migrateArgs
			if err := (&job.Task{Job: j}).Args(&to); err != nil {
				return nil, nil, err
			}
			b, _ := s.backends.Backend(to.Backend)
			stores[b.Store] += to.GiB
		}
	}
	return of, stores, nil
}

// pools are the backends as filters see them in a transaction.
func (s *Service) pools(tx *catalog.Tx, protected bool) (all []placement.Pool, err error) {
	of, stores, err := s.promises(tx)
	if err != nil {
		return nil, err
	}
	states, err := tx.Services()
	if err != nil {
		return nil, err
	}
	const gib = float64(block.GiB)
	for _, b := range s.sortedBackends() {
		rules, room, use := s.cfg.Placing.Backends[b.Name], s.stock.get(b.Store), of[b.Name]
		all = append(all, placement.Pool{
			Backend: b.Name, Store: b.Store, Zones: rules.Zones, Capabilities: s.capable[protected][b.Name],
			Known: room.known, Total: float64(room.capacity.Total) / gib, Free: float64(room.capacity.Free) / gib,
			Placed: max(0, stores[b.Store]-room.promised), Promised: stores[b.Store],
			Allocated: use.GiB, Volumes: use.Volumes,
			Reserved: rules.Reserved, Ratio: rules.Ratio, Auto: rules.Auto, Closed: closed(states, b.Name),
		})
	}
	return all, nil
}

// closed says why a backend takes nothing new; "" if it does.
func closed(states []catalog.ServiceState, backend string) string {
	for _, st := range states {
		if !st.Disabled || st.Kind != SchedulerService && (st.Kind != VolumeService || st.Backend != backend) {
			continue
		}
		why := "it is disabled"
		if st.Kind == SchedulerService {
			why = "the scheduler is disabled"
		}
		if st.Reason != nil && *st.Reason != "" {
			why += ": " + *st.Reason
		}
		return why
	}
	return ""
}

// place chooses a backend. Who calls it promises the room in the same
// transaction, and called measureRooms before.
func (s *Service) place(tx *catalog.Tx, r placement.Request, protected bool) (placement.Decision, error) {
	pools, err := s.pools(tx, protected)
	return placement.Choose(r, pools, s.cfg.Placing.weights()), err
}

// placed is what was asked for a volume and what became of it.
type placed struct {
	what     string
	volume   block.Volume
	size     int64 // GiB that are added
	decision placement.Decision
	failed   error                                 // of the backend where the volume was before, if any
	also     func(*catalog.Tx, block.Volume) error // in the transaction that moves it; nil for nothing
}

// keep writes a placement down for operators.
func (p placed) keep(tx *catalog.Tx) error {
	e := block.Placement{
		Volume:  p.volume.ID,
		Project: p.volume.Project,
		What:    p.what,
		Size:    p.size,
		Type:    p.volume.TypeName,
		Backend: p.decision.Backend(),
		Refused: p.decision.Refused,
	}
	if p.failed != nil {
		e.Failed, e.Error = p.volume.Backend, cut(p.failed.Error(), maxCause)
	}
	return tx.InsertPlacement(e)
}

// maxCause is how many bytes of an error are kept with a placement.
const maxCause = 500

func cut(text string, n int) string { return text[:min(len(text), n)] }

// tellPlaced logs a placement after its transaction.
func (s *Service) tellPlaced(ctx context.Context, p placed) {
	level, text := slog.LevelDebug, "a backend was chosen"
	switch {
	case p.decision.Backend() == "":
		level, text = slog.LevelWarn, "no backend can take a volume"
	case p.failed != nil:
		level, text = slog.LevelWarn, "a volume is made on another backend"
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	args := []any{"volume", p.volume.ID, "for", p.what, "backend", p.decision.Backend(), "refused", p.decision.String()}
	if p.failed != nil {
		args = append(args, "failed", p.volume.Backend, "err", p.failed)
	}
	s.log.Log(ctx, level, text, args...)
}

// Hints are what a new volume is to be near to, or away from
// (cinder/scheduler/filters/affinity_filter.py).
type Hints struct {
	Same, Different []block.VolumeID
	// Unreadable says that one of them was no list of ids: no backend is right then.
	Unreadable bool
}

// maxHints is how many volumes hints may name.
const maxHints = 100

// hint has a request keep to hints. Volumes that the caller does not see are not
// there.
func (s *Service) hint(tx *catalog.Tx, c block.Caller, h Hints, r *placement.Request) error {
	if len(h.Same) > maxHints || len(h.Different) > maxHints {
		return invalidInput("Scheduler hints may name %d volumes at most.", maxHints)
	}
	backends := func(ids []block.VolumeID) (names []string, err error) {
		for _, id := range ids {
			v, err := tx.Volume(id)
			switch {
			case block.Is(err, block.NotFound), err == nil && !sees(c, v.Project):
			case err != nil:
				return nil, err
			case !slices.Contains(names, v.Backend):
				names = append(names, v.Backend)
			}
		}
		return names, nil
	}
	var err, failed error
	r.Same, err = backends(h.Same)
	r.Different, failed = backends(h.Different)
	if r.Bound = h.Unreadable || len(h.Same) > 0; h.Unreadable {
		r.Same = nil
	}
	return first(err, failed)
}

// placeNew chooses the backend of a new volume, and the availability zone among
// those that are permitted. Where none can take it, the volume has none, and its
// job puts it into error.
func (s *Service) placeNew(tx *catalog.Tx, c block.Caller, req NewVolume, v *block.Volume, t *block.VolumeType,
	from origin, zones []string) (placement.Request, placed, error) {
	r := placement.Request{Size: v.Size, Zones: zones, Near: from.backend}
	if t != nil {
		r.Specs = t.ExtraSpecs
	}
	if only := s.defaultBackend(t); only != "" {
		r.Only = []string{only}
	}
	p := placed{what: "create", size: v.Size}
	if err := s.hint(tx, c, req.Hints, &r); err != nil {
		return r, p, err
	}
	var err error
	if v.GroupID != nil {
		if r.Stores, err = s.storesOfGroup(tx, *v.GroupID); err != nil {
			return r, p, err
		}
	}
	if p.decision, err = s.place(tx, r, s.protected(v.TypeID)); err != nil {
		return r, p, err
	}
	v.Backend = p.decision.Backend()
	if own := s.cfg.Placing.Backends[v.Backend].Zones; len(own) > 0 {
		if i := slices.IndexFunc(zones, func(z string) bool { return slices.Contains(own, z) }); i >= 0 {
			v.AvailabilityZone = zones[i]
		}
	}
	if p.volume = *v; v.Backend != "" {
		return r, p, nil
	}
	return r, p, p.keep(tx)
}

// errBackend is a failure of the backend that was chosen for a volume, not of
// what the volume is made of.
type errBackend struct{ error }

func (e errBackend) Unwrap() error { return e.error }

func atBackend(err error) error {
	if err == nil {
		return nil
	}
	return errBackend{err}
}

// filled is the device of a volume that is being made. What goes wrong with it is its
// backend's fault, not that of whom its bytes come from.
type filled struct{ driver.Device }

func (f filled) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.Device.WriteAt(p, off)
	return n, atBackend(err)
}

func (f filled) Zero(off, length int64) error { return atBackend(f.Device.Zero(off, length)) }

func (f filled) Flush() error { return atBackend(f.Device.Flush()) }

// fillable lends the device of a volume that is being made, as devices.borrow does.
func (s *Service) fillable(ctx context.Context, v block.Volume) (driver.Device, func() error, error) {
	to, giveBack, err := s.devices.borrow(ctx, v.Backend, v.ID)
	if err != nil {
		return nil, nil, atBackend(err)
	}
	return filled{to}, giveBack, nil
}

// elsewhere finds another backend for a new volume where its own failed, as
// Cinder reschedules: at most Placing.Attempts are tried. What the failed one has
// of the volume is removed by a job. Where there is no other one, the cause
// decides what becomes of the volume.
func (s *Service) elsewhere(ctx context.Context, t *job.Task, v block.Volume, args createArgs, cause error) error {
	if !otherBackend(ctx, args.Place, cause) {
		return cause
	}
	return s.beginElsewhere(ctx, t, v, *args.Place, whileCreating, cause)
}

// beginElsewhere has a job begin again on another backend, if there is one; else it
// returns the cause.
func (s *Service) beginElsewhere(ctx context.Context, t *job.Task, v block.Volume, place placement.Request,
	in []block.VolumeStatus, cause error) error {
	moved, err := s.tryElsewhere(ctx, t.Job.ID, v, place, placed{what: "create", size: v.Size, failed: cause}, in)
	switch {
	case err != nil:
		return err
	case !moved:
		return cause
	}
	return job.Snooze(0, cause)
}

// MaxPlacements is how many placements one call lists.
const MaxPlacements = 1000

// Placements lists at most limit volumes for which no backend was found, or
// another one than at first, the newest first: those before an id where that is
// above 0, and of one volume where that is not "". Only administrators may know.
func (s *Service) Placements(ctx context.Context, c block.Caller, volume block.VolumeID, before int64,
	limit int) (all []block.Placement, err error) {
	if !c.Admin() {
		return nil, block.Errorf(block.Forbidden, "Only an administrator may know where volumes are placed.")
	}
	if limit < 1 || limit > MaxPlacements || before < 0 {
		return nil, block.Errorf(block.Invalid, "limit must be between 1 and %d.", MaxPlacements)
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.Placements(volume, before, limit)
		return err
	})
	return all, err
}
