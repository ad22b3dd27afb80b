package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/export/nbd"
	"kvol/internal/export/qos"
)

var _ nbd.Exports = (*Exports)(nil)

// Exports says which volume a host reaches under a name, and in which way. It
// is what an export protocol asks; see nbd.Exports.
type Exports struct {
	s   *Service
	key [32]byte

	mu       sync.Mutex // guards below
	open     map[*exported]struct{}
	limiters map[block.VolumeID]*qos.Limiter
	held     func(block.Volume) bool // nil: none are held back
	paces    map[block.VolumeID]*pace

	paced atomic.Int32 // how many paces there are, so that writers of volumes without any need no lock
}

// Exports returns the exports of the zone. There is one for a Service.
func (s *Service) Exports() *Exports { return s.exports }

func newExports(s *Service, key [32]byte) *Exports {
	return &Exports{s: s, key: key, open: map[*exported]struct{}{}, limiters: map[block.VolumeID]*qos.Limiter{},
		paces: map[block.VolumeID]*pace{}}
}

var nameEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// name is a connection's export name: its id, and a tag that nobody can make
// without the zone's key.
func (e *Exports) name(connection string) string {
	mac := hmac.New(sha256.New, e.key[:])
	mac.Write([]byte("export " + connection))
	return connection + "." + strings.ToLower(nameEncoding.EncodeToString(mac.Sum(nil)))
}

// exportedReadOnly is the rule for who may write: nobody to a stale primary or
// one that is being moved to another zone, nor to a read-only volume, nor
// through a connection or attachments that only read.
func exportedReadOnly(v block.Volume, conn block.Connection) bool {
	if v.RecoveredTo != nil || v.Switching != "" || v.Readonly || conn.Readonly {
		return true
	}
	for _, a := range v.Attachments {
		if a.Status == attached && a.Mode != readOnly {
			return false
		}
	}
	return v.Attached()
}

// atSnapshot stands between a connection's name and the id of a snapshot of its
// volume, which then is exported in the volume's place, for reading.
const atSnapshot = "@"

// Open opens the export of a name for one client. NotFound means that there is
// no such export, or none any more; Unavailable, that the zone holds the volume
// back until it knows that nobody else writes to it.
func (e *Exports) Open(ctx context.Context, name string) (nbd.Export, error) {
	unknown := block.Errorf(block.NotFound, "There is no such export.")
	name, snapshot, at := strings.Cut(name, atSnapshot)
	connection, _, ok := strings.Cut(name, ".")
	if !ok || at && snapshot == "" || !hmac.Equal([]byte(name), []byte(e.name(connection))) {
		return nbd.Export{}, unknown
	}
	v, _, err := e.lookUp(ctx, connection)
	if err != nil {
		return nbd.Export{}, err
	}
	// The export is entered before what decides about it is read: whatever
	// changes it after that read finds it and revokes it.
	x := &exported{exports: e, connection: connection, volume: v.ID, snapshot: block.SnapshotID(snapshot),
		revoked: make(chan struct{})}
	e.enter(x)
	out, err := e.begin(ctx, x)
	if err != nil {
		e.leave(x)
		return nbd.Export{}, err
	}
	return out, nil
}

func (e *Exports) lookUp(ctx context.Context, connection string) (v block.Volume, conn block.Connection, err error) {
	err = e.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if conn, err = tx.Connection(connection); err != nil {
			return err
		}
		v, err = tx.Volume(conn.VolumeID)
		return err
	})
	if block.Is(err, block.NotFound) || err == nil && v.Status == block.VolumeDeleting {
		err = block.Errorf(block.NotFound, "There is no such export.")
	}
	return v, conn, err
}

// begin decides about an export that is entered, and borrows the device.
func (e *Exports) begin(ctx context.Context, x *exported) (nbd.Export, error) {
	v, conn, err := e.lookUp(ctx, x.connection)
	if err != nil {
		return nbd.Export{}, err
	}
	if !e.admit(x, v) {
		return nbd.Export{}, errHeldBack(v.ID)
	}
	changes, err := e.changes(ctx, v)
	if err != nil {
		return nbd.Export{}, err
	}
	if changes {
		return nbd.Export{}, block.Errorf(block.Unavailable, "Volume %s waits until it has its new content.", v.ID)
	}
	if err := e.s.unlent(ctx, v.ID); err != nil {
		return nbd.Export{}, err
	}
	if x.limits, err = e.s.exportQoS(ctx, v); err != nil {
		return nbd.Export{}, err
	}
	if x.snapshot != "" {
		return e.beginSnapshot(ctx, x, v)
	}
	device, giveBack, err := e.s.devices.borrow(ctx, v.Backend, v.ID)
	if err != nil {
		return nbd.Export{}, err
	}
	if now, _, err := e.lookUp(ctx, x.connection); err != nil || now.Backend != v.Backend {
		if err == nil { // it moved before the device was held; the client asks again
			err = block.Errorf(block.Unavailable, "Volume %s moves to another backend.", v.ID)
		}
		return nbd.Export{}, errors.Join(err, giveBack())
	}
	if device, err = e.s.clear(ctx, v, device); err != nil {
		return nbd.Export{}, errors.Join(err, giveBack())
	}
	readOnly := exportedReadOnly(v, conn)
	needed := e.s.leasesOf(v)
	if seq := e.s.leases.lost(needed, v.ID); seq != 0 && !readOnly {
		return nbd.Export{}, errors.Join(errLease(v.ID, seq), giveBack())
	}
	x.permit(device, readOnly, &e.s.leases, needed)
	out := e.export(x, v, giveBack)
	out.ReadOnly, out.Description = readOnly, "volume "+string(v.ID)
	switch {
	case v.Switching != "":
		out.Description += ", read-only while it is moved to zone " + string(v.Switching)
	case v.RecoveredTo != nil:
		out.Description += ", read-only: it lives in zone " + string(v.RecoveredTo.Zone) + " as volume " +
			string(v.RecoveredTo.Volume)
	}
	return out, nil
}

// changes reports whether a job gives a volume other bytes now than hosts may see.
func (e *Exports) changes(ctx context.Context, v block.Volume) (yes bool, err error) {
	switch v.Status {
	case block.VolumeReverting, block.VolumeDownloading, block.VolumeRestoring:
		return true, nil
	}
	if !v.Migrating() {
		return false, nil
	}
	err = e.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		r, err := tx.Reencryption(v.ID)
		yes = err == nil && r.Phase != block.ReencryptionDone
		return ignoring(block.NotFound, err)
	})
	return yes, err
}

// export is what a client gets who was permitted; giveBack is called when it is
// done.
func (e *Exports) export(x *exported, v block.Volume, giveBack func() error) nbd.Export {
	out := nbd.Export{
		Device: x.device(), Revoked: x.revoked,
		Release: sync.OnceFunc(func() {
			x.release()
			if err := giveBack(); err != nil {
				e.s.log.Error("closing a volume failed", "volume", v.ID, "err", err)
			}
			e.leave(x)
		}),
	}
	if l := e.limiter(v.ID, x.limits); l != nil {
		out.Throttle, out.GiveBack = l.Take, l.GiveBack
	}
	return out
}

func errHeldBack(id block.VolumeID) error {
	return block.Errorf(block.Unavailable,
		"Volume %s waits until a backup zone has said that it was not recovered there.", id)
}

// heldBack reports whether a volume waits for the word of its backup zones.
func (e *Exports) heldBack(v block.Volume) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held != nil && e.held(v)
}

// admit reports whether an export of a volume may be open now, and if so notes
// the volume, for HoldExports to look at later.
func (e *Exports) admit(x *exported, v block.Volume) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held != nil && e.held(v) {
		return false
	}
	x.admitted = &v
	return true
}

func (e *Exports) enter(x *exported) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open[x] = struct{}{}
}

func (e *Exports) leave(x *exported) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, x)
}

// revoke ends a volume's exports. When it returns, no write of theirs is under
// way and none will be taken.
func (e *Exports) revoke(id block.VolumeID) {
	e.revokeIf(func(x *exported) bool { return x.volume == id })
	e.tell(string(id))
}

// revokeWritable is revoke for those exports that may write.
func (e *Exports) revokeWritable(id block.VolumeID) {
	e.revokeIf(func(x *exported) bool { return x.volume == id && x.mayWrite() })
	e.tell(string(id))
}

// retyped lets the exports of a volume that has another type need the leases of that one.
func (e *Exports) retyped(v block.Volume) {
	for _, x := range e.meant(false, []string{string(v.ID)}) {
		x.need(e.s.leasesOf(v))
	}
	e.tell(string(v.ID))
}

// revokeSnapshot is revoke for those exports that read a snapshot.
func (e *Exports) revokeSnapshot(id block.SnapshotID) {
	e.revokeIf(func(x *exported) bool { return x.snapshot == id })
}

// revokeConnections is revoke for connections, by id.
func (e *Exports) revokeConnections(ids []string) {
	for _, id := range ids {
		e.revokeIf(func(x *exported) bool { return x.connection == id })
	}
	e.tell(ids...)
}

func (e *Exports) revokeIf(meant func(*exported) bool) {
	e.mu.Lock()
	var all []*exported
	for x := range e.open {
		all = append(all, x)
	}
	e.mu.Unlock()
	for _, x := range all {
		if meant(x) {
			x.revoke()
		}
	}
}

// HoldExports holds back the exports of the volumes that held says so of, in
// the place of those that were held back before: they can't be opened, and those
// that are open end. A zone does so when it starts, until it has asked its peers
// whether they recovered its volumes. held must not call the Service.
func (s *Service) HoldExports(held func(block.Volume) bool) {
	e := s.exports
	e.mu.Lock()
	e.held = held
	var over []*exported
	for x := range e.open { // one that is not admitted yet asks held itself
		if x.admitted != nil && held(*x.admitted) {
			over = append(over, x)
		}
	}
	e.mu.Unlock()
	for _, x := range over {
		x.revoke()
	}
}

// ReleaseExports ends HoldExports.
func (s *Service) ReleaseExports() {
	s.exports.mu.Lock()
	defer s.exports.mu.Unlock()
	s.exports.held = nil
}
