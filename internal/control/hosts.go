package control

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// What a volume's hosts may do that use it by its store's own protocol, past the
// exports, follows from the catalog: the connections of that protocol, and
// whether the volume may be written to. Whoever changes one of the two has
// settleHosts run, by a job that is in the same transaction, so that no crash
// leaves a host with what it may not have.
//
// Cutting a host off names clients that were listed while its connection was
// known to be gone and others waited: a host that is let in later is never among
// them, whoever settles at the same time.

const jobHosts = "volume.hosts" // subject: hostsOf the volume

// pastExports reports whether a connection's protocol is its store's own.
func pastExports(protocol string) bool { return protocol != protocolNBD && protocol != protocolISCSI }

// hostsOf is the subject of the jobs about a volume's hosts, which wait for no
// other jobs of the volume.
func hostsOf(id block.VolumeID) string { return string(id) + "/hosts" }

// lender is the store of a volume, if it lends volumes to hosts.
func (s *Service) lender(v block.Volume) (driver.Lender, bool) {
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return nil, false
	}
	l, ok := driver.As[driver.Lender](store)
	if ok {
		_, ok = l.Lending(v.ID)
	}
	return l, ok
}

// lending is how a volume's hosts reach it by its store's own protocol.
func (s *Service) lending(v block.Volume) (driver.Lending, bool) {
	l, ok := s.lender(v)
	if !ok {
		return driver.Lending{}, false
	}
	return l.Lending(v.ID)
}

// lends chooses whether a new connection is by the store's own protocol: not if
// its host asks for another, nor where the zone has to stand between the two: it
// encrypts, keeps a limit or a lease, lets the host read only, or names moments
// of several volumes.
func (s *Service) lends(tx *catalog.Tx, v block.Volume, conn block.Connection) (bool, error) {
	l, ok := s.lender(v)
	if !ok {
		return false, nil
	}
	how, _ := l.Lending(v.ID)
	asked, said := conn.Connector["protocol"].(string)
	if said && asked != how.Protocol || v.Encrypted && v.Encryption.ByZone() || v.GroupID != nil ||
		len(s.leasesOf(v)) > 0 || exportedReadOnly(v, conn) {
		return false, nil
	}
	q, err := s.qosOf(tx, v)
	return q.Consumer != block.QoSBackEnd || len(qosNumbers(q.Specs)) == 0, err
}

// lentInfo tells a host how to reach a connection by the store's own protocol.
func (s *Service) lentInfo(v block.Volume, conn block.Connection) (ConnectionInfo, error) {
	l, ok := s.lender(v)
	if !ok {
		return ConnectionInfo{}, block.Errorf(block.Unavailable, "This zone serves no exports.")
	}
	how, _ := l.Lending(v.ID)
	if how.Protocol != conn.Protocol { // its volume moved, or the store is another now
		return ConnectionInfo{}, block.Errorf(block.Unavailable, "This zone serves no exports by %s.", conn.Protocol)
	}
	how.Data["volume_id"], how.Data["access_mode"] = string(v.ID), readWrite
	how.Data["encrypted"] = v.Encrypted
	if exportedReadOnly(v, conn) {
		how.Data["access_mode"] = readOnly
	}
	return ConnectionInfo{DriverVolumeType: how.Protocol, Data: how.Data, MountPointBase: how.MountPointBase}, nil
}

// lend has the store let a host in that was given a path of the store's own. A
// second time it does the same.
func (s *Service) lend(ctx context.Context, id block.VolumeID, info *ConnectionInfo) error {
	if info == nil || !pastExports(info.DriverVolumeType) {
		return nil
	}
	h, lent, err := s.hosted(ctx, id)
	if err == nil && lent && s.exports.heldBack(h.volume) {
		err = errHeldBack(id)
	}
	if err != nil {
		return err
	}
	return s.settleHosts(ctx, id)
}

// dropConnection removes a connection. Its host is cut off by a job, if it uses
// the volume past the exports; who uses those ends them.
func dropConnection(tx *catalog.Tx, conn block.Connection) error {
	if err := tx.DeleteConnection(conn.ID); err != nil || !pastExports(conn.Protocol) {
		return err
	}
	return first(tx.WantCut(conn.VolumeID), settleLater(tx, conn.VolumeID))
}

// dropConnectionOf removes an attachment's connection, if it is there.
func dropConnectionOf(tx *catalog.Tx, a block.Attachment) error {
	conn, err := tx.Connection(a.ConnectionID)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	return dropConnection(tx, conn)
}

// settleLater has a job settle what a volume's hosts may do, if it was lent.
func settleLater(tx *catalog.Tx, id block.VolumeID) error {
	_, lent, err := tx.Lent(id)
	if !lent || err != nil {
		return err
	}
	return enqueue(tx, jobHosts, hostsOf(id), hostsArgs{Volume: id})
}

type hostsArgs struct {
	Volume block.VolumeID `json:"volume"`
}

// runHosts never gives up: a host that is to be cut off is not left in.
func (s *Service) runHosts(ctx context.Context, t *job.Task) error {
	var args hostsArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	if err := s.settleHosts(ctx, args.Volume); err != nil {
		return job.Snooze(switchRetry, err)
	}
	return nil
}

// notLent refuses a volume that hosts use past the exports, and says what can't be.
func notLent(tx *catalog.Tx, v block.Volume, why string) error {
	_, lent, err := tx.Lent(v.ID)
	if lent && err == nil {
		err = invalidVolume("Volume %s is used by hosts past this zone's exports; %s.", v.ID, why)
	}
	return err
}

// unlent is an error while a host that used a volume past the exports may write
// to it still, though its connection is gone.
func (s *Service) unlent(ctx context.Context, id block.VolumeID) error {
	h, lent, err := s.hosted(ctx, id)
	if !lent || err != nil || h.lent.Wanted == h.lent.Done {
		return err
	}
	return s.settleHosts(ctx, id)
}

// hosted is what the catalog says about a volume that was lent.
type hosted struct {
	volume      block.Volume
	lent        block.Lent
	connections []block.Connection // by the store's own protocol
}

func (s *Service) hosted(ctx context.Context, id block.VolumeID) (h hosted, lent bool, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		h, lent, err = hostedIn(tx, id)
		return err
	})
	return h, lent, err
}

func hostedIn(tx *catalog.Tx, id block.VolumeID) (h hosted, lent bool, err error) {
	if h.lent, lent, err = tx.Lent(id); !lent || err != nil {
		return h, false, err
	}
	if h.volume, err = tx.Volume(id); err != nil {
		return h, false, err
	}
	h.connections, err = tx.Connections(id)
	h.connections = slices.DeleteFunc(h.connections, func(c block.Connection) bool { return !pastExports(c.Protocol) })
	return h, err == nil, err
}

// settleHosts brings what the hosts of a lent volume may do in line with the
// catalog. When it returns nil, hosts that are to be cut off write no more.
func (s *Service) settleHosts(ctx context.Context, id block.VolumeID) error {
	for {
		h, lent, err := s.hosted(ctx, id)
		if !lent || err != nil {
			return err
		}
		store, ok := s.lender(h.volume)
		if !ok { // its configuration was changed
			return block.Errorf(block.Unavailable, "The store of volume %s lends nothing, but hosts may have the volume.", id)
		}
		if err := s.settleOnce(ctx, store, h); err != nil {
			return err
		}
		// What changed meanwhile found hosts as they were before.
		now, lent, err := s.hosted(ctx, id)
		if err != nil || !lent || now.same(h) {
			return err
		}
	}
}

// same reports whether hosts may do the same.
func (h hosted) same(other hosted) bool {
	return h.lent.Wanted == other.lent.Wanted && h.withheld() == other.withheld() &&
		len(h.connections) == len(other.connections)
}

// withheld reports whether nobody may write to the volume.
func (h hosted) withheld() bool { return exportedReadOnly(h.volume, block.Connection{}) }

func (s *Service) settleOnce(ctx context.Context, store driver.Lender, h hosted) error {
	id := h.volume.ID
	if h.withheld() {
		if err := store.Withhold(ctx, id); err != nil {
			return err
		}
		return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.CutDone(id, h.lent) })
	}
	if h.lent.Wanted > h.lent.Done {
		if err := s.cutHosts(ctx, store, h); err != nil {
			return err
		}
	}
	if len(h.connections) > 0 {
		return store.Lend(ctx, id)
	}
	if err := store.Reclaim(ctx, id); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, lent, err := hostedIn(tx, id)
		if err != nil || !lent || len(now.connections) > 0 {
			return err
		}
		return tx.Reclaimed(id, h.lent)
	})
}

// cutHosts cuts off those hosts of a volume that had no connection any more when
// h was read.
func (s *Service) cutHosts(ctx context.Context, store driver.Lender, h hosted) error {
	id := h.volume.ID
	who, err := store.Borrowers(ctx, id)
	if err != nil {
		return err
	}
	// Only now is it asked whether this was done meanwhile: if not, nobody was let
	// in since h was read, and so nobody of those who were listed.
	now, lent, err := s.hosted(ctx, id)
	if err != nil || !lent || now.lent.Done >= h.lent.Wanted {
		return err
	}
	gone := slices.DeleteFunc(who, func(b driver.Borrower) bool {
		return slices.ContainsFunc(now.connections, func(c block.Connection) bool {
			return c.Host() == "" || b.Host == "" || c.Host() == b.Host
		})
	})
	if err := store.Cut(ctx, id, gone); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.CutDone(id, h.lent) })
}
