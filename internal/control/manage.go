package control

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// Manageable is a volume or a snapshot in a store, by its name there. One that
// is not Safe stays as it is, for a Reason.
type Manageable struct {
	Name   string
	Volume block.VolumeID // of a snapshot
	Size   int64          // GiB
	Safe   bool
	Reason string
	ID     string // under which the API knows it; "" for none
}

const (
	alreadyManaged = "already managed"
	usedByZone     = "used by the zone itself"
	oddSize        = "its size is no whole number of GiB"
)

// NewManaged is what ManageVolume is asked for: a volume that lies on a backend
// already. Its name there becomes its id.
type NewManaged struct {
	Backend           string
	Host              string // how the API calls the backend
	Source            string
	Name, Description *string
	VolumeType        *string // name or id
	AvailabilityZone  *string
	Bootable          bool
	Metadata          map[string]string
}

// ManageableVolumes lists what lies in a backend's store, by size or by name.
// Only a page of it is looked up in the catalog.
func (s *Service) ManageableVolumes(ctx context.Context, c block.Caller, backend, host string,
	p ManagePage) ([]Manageable, error) {
	if err := first(mustAdminister(c, "volume_extension:list_manageable"), s.hasService(backend, host)); err != nil {
		return nil, err
	}
	store, err := s.backends.Of(backend)
	if err != nil {
		return nil, err
	}
	var all []Manageable
	for info, err := range store.Volumes(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, Manageable{Name: string(info.ID), Size: gibs(info.Size), Safe: info.Size%block.GiB == 0})
	}
	page, err := p.of(all)
	if err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		for i := range page {
			if err := s.judgeVolume(tx, &page[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

func (s *Service) judgeVolume(tx *catalog.Tx, m *Manageable) error {
	if !m.Safe {
		m.Reason = oddSize
	}
	id := block.VolumeID(m.Name)
	if _, err := tx.Volume(id); err == nil {
		m.Safe, m.Reason, m.ID = false, alreadyManaged, m.Name
		return nil
	} else if !block.Is(err, block.NotFound) {
		return err
	}
	used, err := usedElsewise(tx, id)
	if used {
		m.Safe, m.Reason = false, usedByZone
	}
	return err
}

// usedElsewise reports whether what lies in a store under an id is a replica or a
// drill's, or is about to be removed.
func usedElsewise(tx *catalog.Tx, id block.VolumeID) (bool, error) {
	_, err := tx.Replica(id)
	if err == nil {
		return true, nil
	}
	if !block.Is(err, block.NotFound) {
		return false, err
	}
	if _, ok := block.ParseID(string(id)); !ok {
		return true, nil // it was never a volume of the API
	}
	if drilled, err := tx.IsDrillClone(id); drilled || err != nil {
		return drilled, err
	}
	if copied, err := tx.Replicates(id); copied || err != nil {
		return copied, err
	}
	if _, err := tx.ReencryptedAs(id); !block.Is(err, block.NotFound) {
		return true, err
	}
	return busy(tx, moveEnd(id), 0)
}

// hasService refuses a host that is none of the zone's.
func (s *Service) hasService(backend, host string) error {
	if _, ok := s.backends.Backend(backend); !ok {
		return block.Errorf(block.Invalid, "Host '%s' not found", host)
	}
	return nil
}

// ManageVolume makes a volume of what lies on a backend already, for
// administrators. Nothing is written to the store, and so the volume is
// available at once.
func (s *Service) ManageVolume(ctx context.Context, c block.Caller, req NewManaged) (made block.Volume, err error) {
	err = first(mustAdminister(c, "volume_extension:volume_manage"), inProject(c), checkMetadata(req.Metadata),
		s.hasService(req.Backend, req.Host))
	if err != nil {
		return made, err
	}
	found, err := s.findStored(ctx, req.Backend, req.Source)
	if err != nil {
		return made, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := s.judgeVolume(tx, &found); err != nil {
			return err
		}
		if !found.Safe {
			return cantManage("volume", req.Source, found.Reason)
		}
		v, err := s.planManaged(tx, c, req, found)
		if err != nil {
			return err
		}
		if err := tx.InsertVolume(v); err != nil {
			return err
		}
		made, err = tx.Volume(v.ID)
		return err
	})
	if err == nil {
		s.changed(made.ID)
	}
	return made, err
}

// cantManage is the answer where Cinder finds the same.
func cantManage(what, source, reason string) error {
	if reason == alreadyManaged {
		return block.Errorf(block.Invalid, "Unable to manage existing %s. Volume %s already managed.", what, source)
	}
	return block.Errorf(block.Invalid, "Manage existing %s failed due to invalid backend reference "+
		"{'source-name': '%s'}: %s", what, source, reason)
}

func (s *Service) findStored(ctx context.Context, backend, name string) (Manageable, error) {
	store, err := s.backends.Of(backend)
	if err != nil {
		return Manageable{}, err
	}
	info, err := driver.Find(ctx, store, block.VolumeID(name))
	if block.Is(err, block.NotFound) {
		return Manageable{}, cantManage("volume", name, "Volume does not exist.")
	}
	if err != nil {
		return Manageable{}, err
	}
	return Manageable{Name: name, Size: gibs(info.Size), Safe: info.Size%block.GiB == 0}, nil
}

func (s *Service) planManaged(tx *catalog.Tx, c block.Caller, req NewManaged, found Manageable) (v block.Volume,
	err error) {
	v = block.Volume{
		ID: block.VolumeID(found.Name), Project: c.Project, User: c.User, Name: req.Name, Description: req.Description,
		Status: block.VolumeAvailable, Size: found.Size, Backend: req.Backend, Epoch: 1, Bootable: req.Bootable,
		Metadata: merged(req.Metadata, nil, false), ReplicationStatus: block.ReplicationDisabled,
	}
	t, err := s.typeFor(tx, c, req.VolumeType, origin{})
	if err != nil {
		return v, err
	}
	if t != nil {
		b, _ := s.backends.Backend(req.Backend)
		if !s.satisfies(b, *t) {
			return v, block.Errorf(block.Invalid, "Manage existing volume failed due to volume type mismatch: "+
				"Volume type %s is not one of host %s.", t.Name, req.Host)
		}
		v.TypeID, v.TypeName, v.Multiattach = t.ID, t.Name, t.ExtraSpecs["multiattach"] == isTrue
	}
	if s.protected(v.TypeID) {
		v.ReplicationStatus = block.ReplicationEnabled
	}
	if v.AvailabilityZone, err = s.availabilityZone(req.AvailabilityZone, t); err != nil {
		return v, err
	}
	if e, err := wantedEncryption(tx, t); e != nil || err != nil {
		return v, first(err, invalidType("volumes of type %s are encrypted, and nobody knows the key of this one.", t.Name))
	}
	return v, first(checkTypeSize(t, v.Size), checkVolumeSize(tx, v.Project, v.Size),
		checkQuota(tx, v.Project, volumeDelta(1, v.Size, v.TypeName)))
}

// ManagePage is which part of a list is wanted.
type ManagePage struct {
	Offset, Limit int
	BySize        bool // else by name
	Ascending     bool
	Marker        string // the name after which it begins; "" for the first
}

// of sorts and cuts (cinder/volume/volume_utils.py, paginate_entries_list).
func (p ManagePage) of(all []Manageable) ([]Manageable, error) {
	slices.SortFunc(all, func(a, b Manageable) int {
		order := strings.Compare(a.Name, b.Name)
		if p.BySize {
			order = cmp.Or(cmp.Compare(a.Size, b.Size), order)
		}
		if !p.Ascending {
			order = -order
		}
		return order
	})
	if p.Marker != "" {
		at := slices.IndexFunc(all, func(m Manageable) bool { return m.Name == p.Marker })
		if at < 0 {
			return nil, invalidInput("marker not found: {'source-name': '%s'}", p.Marker)
		}
		all = all[at+1:]
	}
	all = all[min(p.Offset, len(all)):]
	return all[:min(p.Limit, len(all))], nil
}

// ManageableSnapshots lists the snapshots in a backend's store of the volumes
// that the API knows.
func (s *Service) ManageableSnapshots(ctx context.Context, c block.Caller, backend, host string,
	p ManagePage) ([]Manageable, error) {
	err := first(mustAdminister(c, "snapshot_extension:list_manageable"), s.hasService(backend, host))
	if err != nil {
		return nil, err
	}
	store, err := s.backends.Of(backend)
	if err != nil {
		return nil, err
	}
	var volumes []block.Volume
	err = s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		volumes, err = tx.Volumes(block.ListQuery{Limit: -1, Filters: map[string]string{"host": "@" + backend}})
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []Manageable
	for _, v := range volumes {
		some, err := store.Snapshots(ctx, v.ID)
		if ignoring(block.NotFound, err) != nil {
			return nil, err
		}
		for _, sn := range some {
			all = append(all, manageable(v.ID, sn))
		}
	}
	page, err := p.of(all)
	if err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		for i := range page {
			if err := judgeSnapshot(tx, &page[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

func manageable(id block.VolumeID, sn driver.SnapshotInfo) Manageable {
	return Manageable{Name: string(sn.Name), Volume: id, Size: gibs(sn.Size), Safe: true}
}

// judgeSnapshot tells tenants' snapshots and the zone's own moments from those
// that nobody knows.
func judgeSnapshot(tx *catalog.Tx, m *Manageable) error {
	if _, err := tx.Snapshot(block.SnapshotID(m.Name)); err == nil {
		m.Safe, m.Reason, m.ID = false, alreadyManaged, m.Name
		return nil
	} else if !block.Is(err, block.NotFound) {
		return err
	}
	used, err := tx.Held(m.Volume, block.PointID(m.Name))
	if err != nil {
		return err
	}
	if _, err := tx.Volume(block.VolumeID(m.Name)); err == nil { // it is made of this moment
		used = true
	} else if !block.Is(err, block.NotFound) {
		return err
	}
	if _, err := tx.Backup(block.BackupID(m.Name)); err == nil { // the base of the next one
		used = true
	} else if !block.Is(err, block.NotFound) {
		return err
	}
	_, isID := block.ParseID(m.Name)
	works, err := busy(tx, string(m.Volume), 0)
	points := movePoints(m.Volume)
	if used || !isID || works || slices.Contains(points[:], block.PointID(m.Name)) {
		m.Safe, m.Reason = false, usedByZone
	}
	return err
}

// ManageSnapshot makes a snapshot of one that lies in its volume's store
// already, for administrators. Its name there becomes its id.
func (s *Service) ManageSnapshot(ctx context.Context, c block.Caller, req NewSnapshot,
	source string) (made block.Snapshot, err error) {
	err = first(mustAdminister(c, "snapshot_extension:snapshot_manage"), checkMetadata(req.Metadata))
	if err != nil {
		return made, err
	}
	v, err := s.Volume(ctx, c, req.VolumeID)
	if err != nil {
		return made, err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return made, err
	}
	all, err := store.Snapshots(ctx, v.ID)
	if err != nil {
		return made, err
	}
	i := slices.IndexFunc(all, func(sn driver.SnapshotInfo) bool { return string(sn.Name) == source })
	if i < 0 {
		return made, cantManage("snapshot", source, "Snapshot does not exist.")
	}
	found := manageable(v.ID, all[i])
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := volumeOf(tx, c, v.ID)
		if err != nil {
			return err
		}
		if err := judgeSnapshot(tx, &found); err != nil {
			return err
		}
		if !found.Safe {
			return cantManage("snapshot", source, found.Reason)
		}
		sn := block.Snapshot{
			ID: block.SnapshotID(found.Name), VolumeID: v.ID, Project: v.Project, User: c.User, Name: req.Name,
			Description: req.Description, Size: found.Size, Status: block.SnapshotAvailable, Progress: "100%",
			Metadata: merged(req.Metadata, nil, false),
		}
		if err := first(checkQuota(tx, v.Project, snapshotDelta(sn.Size, v.TypeName)), tx.InsertSnapshot(sn)); err != nil {
			return err
		}
		made, err = tx.Snapshot(sn.ID)
		return err
	})
	if err == nil {
		s.changed(v.ID)
	}
	return made, err
}
