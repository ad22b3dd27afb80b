package zonetest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drmodel"
)

// Observer reads what two zones wrote down of a volume, whether they run or
// not, as a state of the model sees it.
type Observer struct {
	c     *Cloud
	zones []string
	ids   []block.VolumeID // of the incarnations, by age
	homes []int8
	open  map[string]*catalog.Catalog // by zone
	lives map[string]string           // of the zone when its catalog was opened
}

// Observe begins with the volume in the first of the zones.
func (c *Cloud) Observe(volume string, zones ...string) *Observer {
	return &Observer{c: c, zones: zones, ids: []block.VolumeID{block.VolumeID(volume)}, homes: []int8{0},
		open: map[string]*catalog.Catalog{}, lives: map[string]string{}}
}

// Look returns what both zones have at one moment: it reads until it finds the
// same twice, since nothing in the rows ever goes back to what it was.
func (o *Observer) Look(ctx context.Context) (drmodel.Seen, error) {
	before, err := o.read(ctx)
	for err == nil && ctx.Err() == nil {
		var now drmodel.Seen
		if now, err = o.read(ctx); err == nil && now == before {
			return now, nil
		}
		before = now
	}
	if err == nil {
		err = ctx.Err()
	}
	return before, err
}

func (o *Observer) read(ctx context.Context) (drmodel.Seen, error) {
	seen := drmodel.Unseen()
	rows := map[string]drmodel.Row{} // by failover
	moves := map[string]int{}
	for z, name := range o.zones {
		err := o.view(ctx, name, func(tx *catalog.Tx) error {
			jobs, err := tx.DRJobs(block.DRRecovery, 1000)
			if err != nil {
				return err
			}
			for _, j := range slices.Backward(jobs) {
				if j.NewVolume != "" && !slices.Contains(o.ids, j.NewVolume) {
					o.ids, o.homes = append(o.ids, j.NewVolume), append(o.homes, int8(z))
				}
				rows[j.Request.IdempotencyKey] = map[block.DRStatus]drmodel.Row{block.DRReady: drmodel.RowRunning,
					block.DRRunning: drmodel.RowRunning, block.DRSuccess: drmodel.RowSuccess, block.DRFail: drmodel.RowFail}[j.Status]
			}
			all, err := tx.Failovers("", 1000)
			for _, f := range slices.Backward(all) {
				if i := slices.Index(o.ids, f.Volume); i >= 0 {
					seen.Moves[i].Phase, moves["failover/"+f.ID] = drmodel.PhaseOf(f.Phase), i
				}
			}
			return err
		})
		if err != nil {
			return seen, err
		}
	}
	for key, i := range moves {
		seen.Moves[i].Row = rows[key]
	}
	for z, name := range o.zones {
		if err := o.view(ctx, name, func(tx *catalog.Tx) error { return o.volumes(tx, int8(z), &seen) }); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// volumes reads the incarnations of a zone.
func (o *Observer) volumes(tx *catalog.Tx, z int8, seen *drmodel.Seen) error {
	for i, id := range o.ids {
		if o.homes[i] != z {
			continue
		}
		v, err := tx.Volume(id)
		if block.Is(err, block.NotFound) {
			seen.Volumes[i] = drmodel.SeenVolume{Role: drmodel.Failed, Zone: z, To: drmodel.None}
			continue
		}
		if err != nil {
			return err
		}
		w := drmodel.SeenVolume{Role: drmodel.Primary, Zone: z, Epoch: drmodel.EpochOf(v.Epoch), To: drmodel.None}
		if v.RecoveredTo != nil {
			w.Role, w.To = drmodel.Stale, int8(slices.Index(o.ids, v.RecoveredTo.Volume))
		}
		switch {
		case v.Status == block.VolumeCreating:
			if w.Role = drmodel.Filling; !promoted(tx, v) {
				w.Epoch = 0
			}
		case v.RecoveredTo != nil:
		case v.Status == block.VolumeError || v.Status == block.VolumeDeleting:
			w.Role, w.Epoch = drmodel.Failed, 0
		}
		seen.Volumes[i] = w
	}
	return nil
}

// promoted reports whether a volume that is being filled has the right to write
// already, as in a forced recovery.
func promoted(tx *catalog.Tx, v block.Volume) bool {
	fences, err := tx.FencesFor("")
	return err == nil && slices.ContainsFunc(fences, func(f block.Fence) bool { return f.Recovered.Volume == v.ID })
}

// view reads the catalog of a zone, which is another file after a kill.
func (o *Observer) view(ctx context.Context, zone string, fn func(*catalog.Tx) error) error {
	l := o.c.zones[zone]
	life := fmt.Sprint(zone, l.lives, l.server != nil)
	if o.lives[zone] != life {
		if err := o.Close(zone); err != nil {
			return err
		}
		c, err := catalog.Open(ctx, catalog.Options{Path: filepath.Join(l.config.DataDir, "catalog.db")})
		if err != nil {
			return err
		}
		o.open[zone], o.lives[zone] = c, life
	}
	return o.open[zone].View(ctx, fn)
}

// Close lets go of a zone's catalog until the next look; it has to be called
// before the zone is killed.
func (o *Observer) Close(zone string) error {
	c := o.open[zone]
	delete(o.open, zone)
	delete(o.lives, zone)
	if c == nil {
		return nil
	}
	return c.Close()
}
