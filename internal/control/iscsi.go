package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/export/iscsi"
)

const (
	protocolISCSI = "iscsi"

	// targetPrefix begins the names of targets; the connection's id ends them.
	targetPrefix = "iqn.2025-01.kvol:"
	targetLUN    = 1
	// chapLetters is how long a CHAP secret is, each letter being five bits.
	chapLetters = 24
)

var (
	_ iscsi.Targets      = targets{}
	_ iscsi.Reservations = reservations{}
)

// targets are the exports of the connections that are reached by iSCSI: one
// target for each, for the one initiator that its connector names.
type targets struct{ e *Exports }

// Targets returns the zone's iSCSI targets.
func (s *Service) Targets() iscsi.Targets { return targets{s.exports} }

// reservations keeps initiators' persistent reservations in the catalog. A unit
// is a volume, and they end with it.
type reservations struct{ catalog *catalog.Catalog }

// Reservations keeps the persistent reservations of the zone's targets.
func (s *Service) Reservations() iscsi.Reservations { return reservations{s.catalog} }

// LoadReservations implements iscsi.Reservations.
func (r reservations) LoadReservations(ctx context.Context, unit string) (state []byte, err error) {
	err = r.catalog.View(ctx, func(tx *catalog.Tx) error {
		state, err = tx.Reservations(block.VolumeID(unit))
		return err
	})
	return state, err
}

// SaveReservations implements iscsi.Reservations: when it returns, they are
// committed.
func (r reservations) SaveReservations(ctx context.Context, unit string, state []byte) error {
	return r.catalog.Update(ctx, func(tx *catalog.Tx) error {
		before, err := tx.Reservations(block.VolumeID(unit))
		if err != nil {
			return err
		}
		if iscsi.EraOf(before) != iscsi.EraOf(state) {
			return block.Errorf(block.Conflict, "The reservations of volume %s were taken away from its hosts.", unit)
		}
		return tx.SetReservations(block.VolumeID(unit), state)
	})
}

// forgetReservations takes a volume's persistent reservations away from its hosts, which
// is to reach it no more: none of them is to keep out who comes next.
func forgetReservations(tx *catalog.Tx, id block.VolumeID) error {
	return tx.SetReservations(id, iscsi.Forgotten(block.NewID()))
}

// protocolFor chooses how a connector's host reaches a volume: by iSCSI if it
// has an initiator, the zone serves iSCSI, and it does not ask for NBD.
func (s *Service) protocolFor(connector map[string]any) string {
	if (block.Connection{Connector: connector}).Initiator() == "" || connector["protocol"] == protocolNBD ||
		s.cfg.ISCSIAddress == nil || s.cfg.ISCSIAddress() == "" {
		return protocolNBD
	}
	return protocolISCSI
}

// secret is what the initiator of a connection proves itself with: nobody can
// make it without the zone's key.
func (e *Exports) secret(connection string) string { return e.chapSecret("chap " + connection) }

// targetSecret is what the target of a connection proves itself with to an
// initiator that asks for it (two-way CHAP), under the name targetUser.
func (e *Exports) targetSecret(connection string) string {
	return e.chapSecret("chap of target " + connection)
}

func targetUser(connection string) string { return connection + "-target" }

func (e *Exports) chapSecret(of string) string {
	mac := hmac.New(sha256.New, e.key[:])
	mac.Write([]byte(of))
	return strings.ToLower(nameEncoding.EncodeToString(mac.Sum(nil)))[:chapLetters]
}

// targetInfo tells a host how to reach a connection by iSCSI.
func (s *Service) targetInfo(v block.Volume, conn block.Connection) (ConnectionInfo, error) {
	if s.cfg.ISCSIAddress == nil || s.cfg.ISCSIAddress() == "" {
		return ConnectionInfo{}, block.Errorf(block.Unavailable, "This zone serves no exports.")
	}
	data := map[string]any{
		"target_discovered": false, "target_portal": s.cfg.ISCSIAddress(), "target_iqn": targetPrefix + conn.ID,
		"target_lun": targetLUN, "volume_id": string(v.ID), "auth_method": "CHAP", "auth_username": conn.ID,
		"auth_password": s.exports.secret(conn.ID), "access_mode": readWrite,
		"target_auth_username": targetUser(conn.ID), "target_auth_password": s.exports.targetSecret(conn.ID),
		"encrypted": v.Encrypted && !v.Encryption.ByZone(), "discard": true,
	}
	if d := s.cfg.ISCSIDiscovery; d.Secret != "" { // os_brick/initiator/connectors/iscsi.py
		data["discovery_auth_method"], data["discovery_auth_username"] = "CHAP", d.User
		data["discovery_auth_password"] = d.Secret
	}
	if exportedReadOnly(v, conn) {
		data["access_mode"] = readOnly
	}
	return ConnectionInfo{DriverVolumeType: protocolISCSI, Data: data}, nil
}

// Discover lists the targets of an initiator.
func (t targets) Discover(ctx context.Context, initiator string) (names []string, err error) {
	err = t.e.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		names = nil
		all, err := tx.ConnectionsOf(initiator)
		for _, conn := range all {
			if conn.Protocol == protocolISCSI {
				names = append(names, targetPrefix+conn.ID)
			}
		}
		return err
	})
	return names, err
}

// Credentials are a target's, for the initiator that it is there for.
func (t targets) Credentials(ctx context.Context, iqn, initiator string) (iscsi.Credentials, error) {
	conn, _, err := t.find(ctx, iqn, initiator)
	if err != nil {
		return iscsi.Credentials{}, err
	}
	return iscsi.Credentials{User: conn.ID, Secret: t.e.secret(conn.ID), TargetUser: targetUser(conn.ID),
		TargetSecret: t.e.targetSecret(conn.ID)}, nil
}

// Open opens a target's volume for one session, as Exports.Open does.
func (t targets) Open(ctx context.Context, iqn, initiator string) (iscsi.Target, error) {
	conn, v, err := t.find(ctx, iqn, initiator)
	if err != nil {
		return iscsi.Target{}, err
	}
	x, err := t.e.Open(ctx, t.e.name(conn.ID))
	if err != nil {
		return iscsi.Target{}, err
	}
	return iscsi.Target{Device: x.Device, LUN: targetLUN, Unit: string(v.ID), ReadOnly: x.ReadOnly,
		Revoked: x.Revoked, Release: x.Release, Throttle: x.Throttle, GiveBack: x.GiveBack}, nil
}

// find finds a target's connection. For other initiators there is none.
func (t targets) find(ctx context.Context, iqn, initiator string) (block.Connection, block.Volume, error) {
	id, ok := strings.CutPrefix(iqn, targetPrefix)
	if !ok {
		return block.Connection{}, block.Volume{}, block.Errorf(block.NotFound, "There is no such target.")
	}
	v, conn, err := t.e.lookUp(ctx, id)
	if err == nil && (conn.Protocol != protocolISCSI || conn.Initiator() != initiator) {
		err = block.Errorf(block.NotFound, "There is no such target.")
	}
	return conn, v, err
}
