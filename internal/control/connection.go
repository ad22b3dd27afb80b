package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	ruleInitialize = "volume_extension:volume_actions:initialize_connection"
	ruleTerminate  = "volume_extension:volume_actions:terminate_connection"

	protocolNBD = "nbd"

	// maxPaths is how many connections a volume has at most, and how many attachments.
	maxPaths = 256
	// maxConnector is how long at most what a host says of itself is as JSON, in bytes.
	// A host with many ports says some 2 KiB.
	maxConnector = 16 << 10
)

// unconnectable are the statuses in which a volume's content is not there yet,
// not there any more, or not for hosts.
var unconnectable = []block.VolumeStatus{
	block.VolumeCreating, block.VolumeDownloading, block.VolumeDeleting, block.VolumeErrorDeleting,
	block.VolumeRestoring, block.VolumeReverting, block.VolumeMaintenance,
}

// InitializeConnection gives a host a path to a volume's bytes. The same
// connector gets the same path again. The export's name in the answer is what
// lets its holder in: it is derived from the zone's key and stored nowhere.
func (s *Service) InitializeConnection(ctx context.Context, c block.Caller, id block.VolumeID,
	connector map[string]any) (info ConnectionInfo, err error) {
	err = s.changeVolume(ctx, c, id, ruleInitialize, func(tx *catalog.Tx, v block.Volume) error {
		if v.Status == block.VolumeMaintenance {
			return invalidVolume("The volume connection cannot be initialized in maintenance mode.")
		}
		if slices.Contains(unconnectable, v.Status) {
			return invalidVolume("Volume %s status must be available or in-use to connect, but current status is: %s.",
				id, v.Status)
		}
		conn, err := s.connectionFor(tx, v, connector)
		if err != nil {
			return err
		}
		info, err = s.connectionInfo(tx, v, conn)
		return err
	})
	if err == nil {
		err = s.lend(ctx, id, &info)
	}
	return info, err
}

// connectionFor returns the volume's connection for a connector, a new one if
// there is none.
func (s *Service) connectionFor(tx *catalog.Tx, v block.Volume, connector map[string]any) (block.Connection,
	error) {
	wanted, err := json.Marshal(connector)
	if err != nil {
		return block.Connection{}, invalidInput("The connector can't be read.")
	}
	existing, err := tx.Connections(v.ID)
	if err != nil {
		return block.Connection{}, err
	}
	for _, conn := range existing {
		if have, err := json.Marshal(conn.Connector); err == nil && bytes.Equal(have, wanted) {
			return conn, nil
		}
	}
	return s.newConnection(tx, v, connector, connector["mode"] == readOnly)
}

// newConnection adds a connection to a volume, by the protocol that fits both.
func (s *Service) newConnection(tx *catalog.Tx, v block.Volume, connector map[string]any, readonly bool) (
	block.Connection, error) {
	if err := roomForConnection(tx, v.ID, connector); err != nil {
		return block.Connection{}, err
	}
	conn := block.Connection{ID: block.NewID(), VolumeID: v.ID, Connector: connector, Readonly: readonly,
		CreatedAt: tx.Now}
	lends, err := s.lends(tx, v, conn)
	if err != nil {
		return conn, err
	}
	if !lends {
		conn.Protocol = s.protocolFor(connector)
		return conn, tx.InsertConnection(conn)
	}
	how, _ := s.lending(v)
	conn.Protocol = how.Protocol
	return conn, first(tx.InsertConnection(conn), tx.Lend(v.ID))
}

// roomForConnection is an error where a volume has too many connections for one more, or
// the host says more of itself than is kept.
func roomForConnection(tx *catalog.Tx, id block.VolumeID, connector map[string]any) error {
	text, err := json.Marshal(connector)
	if err != nil {
		return invalidInput("The connector can't be read.")
	}
	if len(text) > maxConnector {
		return invalidInput("A connector has at most %d bytes, this one has %d.", maxConnector, len(text))
	}
	all, err := tx.Connections(id)
	if err == nil && len(all) >= maxPaths {
		err = block.Errorf(block.OverLimit, "Volume %s has %d connections already; terminate those that are not used.", id,
			len(all))
	}
	return err
}

// connectionInfo tells a host how to reach a connection, and what limits it is
// to keep to.
func (s *Service) connectionInfo(tx *catalog.Tx, v block.Volume, conn block.Connection) (info ConnectionInfo,
	err error) {
	switch conn.Protocol {
	case protocolISCSI:
		info, err = s.targetInfo(v, conn)
	case protocolNBD:
		info, err = s.exportInfo(v, conn)
	default:
		info, err = s.lentInfo(v, conn)
	}
	if err != nil {
		return ConnectionInfo{}, err
	}
	if v.TypeID != "" { // cinder/volume/manager.py, _parse_connection_options
		t, err := tx.Type(v.TypeID)
		if err != nil {
			return ConnectionInfo{}, err
		}
		info.Data["cacheable"] = t.ExtraSpecs["cacheable"] == isTrue
	}
	info.Data["qos_specs"], err = s.hostQoS(tx, v)
	return info, err
}

// exportInfo tells a host how to reach a connection by NBD.
func (s *Service) exportInfo(v block.Volume, conn block.Connection) (ConnectionInfo, error) {
	name := s.exports.name(conn.ID)
	data := map[string]any{
		"export": name, "tls": s.cfg.ExportTLS, "volume_id": string(v.ID), "access_mode": readWrite,
		"encrypted": v.Encrypted && !v.Encryption.ByZone(), "discard": true,
	}
	if exportedReadOnly(v, conn) {
		data["access_mode"] = readOnly
	}
	served := false
	if s.cfg.UnixSocket != nil && s.cfg.UnixSocket() != "" {
		data["unix_socket"], served = s.cfg.UnixSocket(), true
	}
	if s.cfg.ExportAddress != nil && s.cfg.ExportAddress() != "" {
		host, portText, err := net.SplitHostPort(s.cfg.ExportAddress())
		if err != nil {
			return ConnectionInfo{}, err
		}
		port, err := strconv.Atoi(portText)
		if err != nil {
			return ConnectionInfo{}, err
		}
		scheme := "nbd"
		if s.cfg.ExportTLS {
			scheme = "nbds"
		}
		where := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, portText), Path: "/" + name}
		data["host"], data["port"], data["url"], served = host, port, where.String(), true
	}
	if !served {
		return ConnectionInfo{}, block.Errorf(block.Unavailable, "This zone serves no exports.")
	}
	return ConnectionInfo{DriverVolumeType: protocolNBD, Data: data}, nil
}

// TerminateConnection takes the paths back that a connector was given, all of
// the volume's for a nil connector. Exports that are in use end at once.
func (s *Service) TerminateConnection(ctx context.Context, c block.Caller, id block.VolumeID,
	connector map[string]any) error {
	var gone []string
	err := s.changeVolume(ctx, c, id, ruleTerminate, func(tx *catalog.Tx, v block.Volume) error {
		gone = nil
		if err := mayDetach(c, v, nil); err != nil {
			return err
		}
		connections, err := tx.Connections(id)
		if err != nil {
			return err
		}
		for _, conn := range connections {
			if !meant(connector, conn.Connector) {
				continue
			}
			if err := dropConnection(tx, conn); err != nil {
				return err
			}
			gone = append(gone, conn.ID)
		}
		return nil
	})
	if err == nil {
		s.exports.revokeConnections(gone)
	}
	return err
}

// meant reports whether a connector names the host of a stored one: of what
// identifies a host in os-brick's connectors both have something, and nothing of that
// differs. A connector that names no host, or is the stored one, means it, too.
func meant(connector, stored map[string]any) bool {
	named, agrees := false, false
	for _, key := range []string{"host", "initiator", "nqn", "uuid", "system uuid"} {
		a, givenA := connector[key]
		b, givenB := stored[key]
		named = named || givenA
		if !givenA || !givenB {
			continue
		}
		if !reflect.DeepEqual(a, b) { // whatever JSON they are
			return false
		}
		agrees = true
	}
	return agrees || !named || reflect.DeepEqual(connector, stored)
}
