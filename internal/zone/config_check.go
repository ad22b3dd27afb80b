package zone

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/export/iscsi"
	"kvol/internal/export/nbd"
	"kvol/internal/export/qos"
)

// check refuses a configuration that could not work, with a sentence that
// says what to change.
func (c *Config) check() error {
	switch {
	case c.Zone == "":
		return fmt.Errorf("zone: a zone needs a name, such as mitaka1")
	case c.Index < 0 || c.Index > 63:
		return fmt.Errorf("index: %d is not between 0 and 63", c.Index)
	case c.Listen == "":
		return fmt.Errorf("listen: the address of the APIs is missing, such as 127.0.0.1:8776")
	case len(c.Stores) == 0:
		return fmt.Errorf("stores: at least one store is needed")
	case len(c.VolumeTypes) == 0:
		return fmt.Errorf("volume_types: at least one volume type is needed")
	case c.IsolatedStart != "all" && c.IsolatedStart != "any" && c.IsolatedStart != "serve":
		return fmt.Errorf("isolated_start: %q is none of all, any and serve", c.IsolatedStart)
	case !slices.Contains([]string{"", "refuse", "accept"}, c.KvolAPI.SilentRivals):
		return fmt.Errorf("kvol_api.silent_rivals: %q is neither refuse nor accept", c.KvolAPI.SilentRivals)
	case c.KvolAPI.InternalErrorStatus != 405 && c.KvolAPI.InternalErrorStatus != 500:
		return fmt.Errorf("kvol_api.internal_error_status: %d is neither 405 nor 500", c.KvolAPI.InternalErrorStatus)
	case c.Block.V2UploadTypeFormat != "rows" && c.Block.V2UploadTypeFormat != "map":
		return fmt.Errorf("block_api.v2_upload_type_format: %q is neither rows nor map", c.Block.V2UploadTypeFormat)
	case len(c.Peers) > 0 && (c.Peer.Listen == "" || c.Peer.Cert == "" || c.Peer.Key == "" || c.Peer.CA == ""):
		return fmt.Errorf("peer: listen, cert, key and ca are needed where there are peers")
	}
	if _, err := time.LoadLocation(c.KvolAPI.TimeZone); err != nil {
		return fmt.Errorf("kvol_api.time_zone: %w", err)
	}
	_, err := c.TrustedProxies.prefixes()
	err = cmp.Or(err, c.Process.check(c.Catalog.URL), c.checkIdentity(), c.Nova.check(), c.Exports.Discovery.check(),
		c.KeyManager.check(), c.DR.check(), c.Backup.check(), c.Placement.check(), c.checkTypes(), c.checkValues())
	if err != nil {
		return err
	}
	return c.checkProtections()
}

func (c *Config) checkTypes() error {
	stores, backends := map[string]bool{}, map[string]bool{}
	for _, s := range c.Stores {
		if err := s.check(); err != nil {
			return err
		}
		if err := s.sizes(); err != nil {
			return err
		}
		if stores[s.Name] {
			return fmt.Errorf("stores: %s is there twice", s.Name)
		}
		stores[s.Name] = true
	}
	if err := c.checkPlaces(); err != nil {
		return err
	}
	for _, b := range c.Backends {
		if !stores[b.Store] {
			return fmt.Errorf("backends: %s lies on store %q, which is not among the stores", b.Name, b.Store)
		}
		if backends[b.Name] {
			return fmt.Errorf("backends: %s is there twice", b.Name)
		}
		backends[b.Name] = true
		if err := b.check(c.AvailabilityZones); err != nil {
			return err
		}
	}
	for id, specs := range c.Exports.VolumeQoS {
		if err := qos.Check(specs); err != nil {
			return fmt.Errorf("exports: volume_qos: %s: %w", id, err)
		}
	}
	found := c.DefaultVolumeType == ""
	for _, t := range c.VolumeTypes {
		if _, ok := block.ParseID(string(t.ID)); !ok {
			return fmt.Errorf("volume_types: %s: id %q is no UUID", t.Name, t.ID)
		}
		if !c.named(t.ExtraSpecs["volume_backend_name"]) {
			return fmt.Errorf("volume_types: %s: extra_specs.volume_backend_name %q is not among the backends",
				t.Name, t.ExtraSpecs["volume_backend_name"])
		}
		if err := qos.Check(t.QoS); err != nil {
			return fmt.Errorf("volume_types: %s: qos: %w", t.Name, err)
		}
		found = found || t.Name == c.DefaultVolumeType
	}
	if !found {
		return fmt.Errorf("default_volume_type: %q is not among the volume types", c.DefaultVolumeType)
	}
	return nil
}

func (c *StoreConfig) check() error {
	switch {
	case !slices.Contains([]string{"logstore", "rbd", "nfs", "mem"}, c.Driver):
		return fmt.Errorf("stores: %s: there is no driver %q", c.Name, c.Driver)
	case c.Driver == "rbd" && c.RBD.Conf == "":
		return fmt.Errorf("stores: %s: rbd.conf, the path of the cluster's ceph.conf, is missing", c.Name)
	case c.Driver != "rbd" && c.RBD != (RBDConfig{}):
		return fmt.Errorf("stores: %s: rbd is for stores whose driver is rbd", c.Name)
	case c.RBD.Hosts != nil && c.RBD.Namespace != "":
		return fmt.Errorf("stores: %s: rbd: hosts use images of the pool's default namespace only: os-brick has no word "+
			"for others", c.Name)
	case c.Reserved < 0 || c.Reserved > 99:
		return fmt.Errorf("stores: %s: reserved_percentage: %d is not between 0 and 99", c.Name, c.Reserved)
	case c.RBD.Timeout < 0 || c.RBD.IOTimeout < 0:
		return fmt.Errorf("stores: %s: rbd: a time-out is negative", c.Name)
	case c.Driver != "nfs" && c.NFS != (NFSConfig{}):
		return fmt.Errorf("stores: %s: nfs is for stores whose driver is nfs", c.Name)
	}
	if err := c.NFS.check(); err != nil {
		return fmt.Errorf("stores: %s: %w", c.Name, err)
	}
	return nil
}

func (c *Config) checkProtections() error {
	peers, seqs := map[block.Zone]bool{}, map[int64]bool{}
	for _, p := range c.Peers {
		if p.Zone == c.Zone {
			return fmt.Errorf("peers: %s is this zone", p.Zone)
		}
		peers[p.Zone] = true
	}
	for _, p := range c.Protections {
		_, known := c.typeNamed(p.VolumeType)
		switch {
		case !known:
			return fmt.Errorf("protections: seq %d: volume type %q is not among the volume types", p.Seq, p.VolumeType)
		case !peers[p.Destination]:
			return fmt.Errorf("protections: seq %d: destination %q is not among the peers", p.Seq, p.Destination)
		case p.BackupBackend.Name == "":
			return fmt.Errorf("protections: seq %d: backup_backend.name is missing", p.Seq)
		case p.Seq <= 0 || seqs[p.Seq]:
			return fmt.Errorf("protections: seq %d: a seq is a number from 1 that no other protection has", p.Seq)
		case p.Interval < 100*time.Millisecond:
			return fmt.Errorf("protections: seq %d: an interval under 100ms is not supported", p.Seq)
		case p.RPOTarget < 0 || p.RPOTarget > 0 && p.RPOTarget < p.Interval:
			return fmt.Errorf("protections: seq %d: rpo_target %s is less than the interval of %s, which can't be kept",
				p.Seq, p.RPOTarget, p.Interval)
		case p.Lease != 0 && (p.Lease < block.MinLease || p.Lease > block.MaxLease):
			return fmt.Errorf("protections: seq %d: a lease is %s to %s, or absent", p.Seq, block.MinLease, block.MaxLease)
		}
		if err := c.checkTransport(p); err != nil {
			return err
		}
		seqs[p.Seq] = true
	}
	return c.checkRelays(peers, seqs)
}

func (c *Config) checkTransport(p ProtectionConfig) error {
	switch p.Transport {
	case "", block.TransportStream.String():
		return nil
	case string(block.TransportMirror):
	default:
		return fmt.Errorf("protections: seq %d: transport %q is neither stream nor rbd-mirror", p.Seq, p.Transport)
	}
	t, _ := c.typeNamed(p.VolumeType)
	b, _ := c.backendNamed(t.ExtraSpecs["volume_backend_name"])
	for _, s := range c.Stores {
		if s.Name == b.Store && s.Driver != "rbd" {
			return fmt.Errorf("protections: seq %d: transport rbd-mirror is for volumes on a store whose driver is rbd, and "+
				"store %s has %s", p.Seq, s.Name, s.Driver)
		}
	}
	return nil
}

// typeNamed finds a volume type by name or id.
func (c *Config) typeNamed(nameOrID string) (TypeConfig, bool) {
	id, _ := block.ParseID(nameOrID)
	for _, t := range c.VolumeTypes {
		if t.Name == nameOrID || string(t.ID) == id || string(t.written) == nameOrID {
			return t, true
		}
	}
	return TypeConfig{}, false
}

// protections are the configured policies as the other rooms know them.
func (c *Config) protections() []block.Protection {
	out := make([]block.Protection, 0, len(c.Protections))
	for _, p := range c.Protections {
		t, _ := c.typeNamed(p.VolumeType)
		out = append(out, block.Protection{
			Seq: p.Seq, SourceZone: c.Zone, SourceType: t.ID, Source: c.backend(t.ExtraSpecs["volume_backend_name"]),
			Destination: p.Destination, Backup: p.BackupBackend.backend(), Interval: p.Interval,
			Retention: retentionOf(p.Retention), Enabled: !p.Disabled, RPOTarget: p.RPOTarget, Lease: p.Lease,
			Transport: p.transport(),
		})
	}
	return out
}

func (p ProtectionConfig) transport() block.Transport {
	if p.Transport == block.TransportStream.String() {
		return block.TransportStream
	}
	return block.Transport(p.Transport)
}

// DefaultRetention is what a protection without tiers keeps: every second for
// an hour, every minute for a day, every hour for a month.
var DefaultRetention = block.Retention{Tiers: []block.RetentionTier{
	{Step: time.Second, For: time.Hour},
	{Step: time.Minute, For: 24 * time.Hour},
	{Step: time.Hour, For: 30 * 24 * time.Hour},
}}

func (c *Config) backend(name string) block.Backend {
	for _, b := range c.Backends {
		if b.Name == name {
			return b.backend()
		}
	}
	return block.Backend{}
}

// backendNamed finds a backend by name.
func (c *Config) backendNamed(name string) (BackendConfig, bool) {
	for _, b := range c.Backends {
		if b.Name == name {
			return b, true
		}
	}
	return BackendConfig{}, false
}

func (b BackendConfig) backend() block.Backend {
	return block.Backend{Name: b.Name, Store: b.Store, SVMName: b.SVMName, SVMIP: b.SVMIP,
		ClusterIP: b.ClusterIP, Path: b.Path}
}

// types are the configured volume types, and the limits on their volumes.
func (c *Config) types() (types []block.VolumeType, limits map[block.TypeID]map[string]string) {
	limits = map[block.TypeID]map[string]string{}
	for _, t := range c.VolumeTypes {
		types = append(types, block.VolumeType{ID: t.ID, Name: t.Name, Description: t.Description,
			Public: !t.Private, ExtraSpecs: t.ExtraSpecs})
		if len(t.QoS) > 0 {
			limits[t.ID] = control.QoSTexts(t.QoS)
		}
	}
	return types, limits
}

// nbd are the limits as the server of NBD exports knows them.
func (l ExportLimits) nbd() nbd.Limits {
	return nbd.Limits{Connections: l.Connections, ClientConnections: l.ClientConnections,
		ExportConnections: l.ExportConnections, ServerBytes: l.MemoryMiB << 20, Stall: l.Stall}
}

// iscsi are the limits as the server of iSCSI targets knows them.
func (l ExportLimits) iscsi() iscsi.Limits {
	return iscsi.Limits{Connections: l.Connections, ClientConnections: l.ClientConnections,
		ServerBytes: l.MemoryMiB << 20, Stall: l.Stall}
}

// credentials are what discovery sessions have to show, as the server of iSCSI
// targets knows them.
func (d DiscoveryConfig) credentials() iscsi.Credentials {
	return iscsi.Credentials{User: d.User, Secret: d.Secret, TargetUser: d.TargetUser, TargetSecret: d.TargetSecret}
}

// check refuses secrets that initiators would not take (RFC 7143, 12.1.3), and
// one for both ways.
func (d DiscoveryConfig) check() error {
	const shortest = 12 // characters
	switch {
	case d == DiscoveryConfig{}:
		return nil
	case d.User == "" || len(d.Secret) < shortest:
		return fmt.Errorf("exports.discovery: a user and a secret of at least %d characters are needed", shortest)
	case d.TargetUser == "" && d.TargetSecret == "":
		return nil
	case d.TargetUser == "" || len(d.TargetSecret) < shortest || d.TargetSecret == d.Secret:
		return fmt.Errorf("exports.discovery: target_user needs a target_secret of at least %d characters that is not the "+
			"secret", shortest)
	}
	return nil
}
