package zone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"kvol/internal/block"
)

// Config is what a zone's configuration file says. Relative paths are taken
// from the file's own directory. docs/operating.md explains each key.
type Config struct {
	Zone              block.Zone     `yaml:"zone"`
	Index             int            `yaml:"index"` // 0..63, of its own in each zone; rowkeys are drawn from it
	Region            string         `yaml:"region"`
	Listen            string         `yaml:"listen"`          // host:port of the APIs
	PublicURL         string         `yaml:"public_url"`      // how users reach Listen; http://Listen if empty
	TLS               *TLSFiles      `yaml:"tls"`             // of the APIs; plain HTTP if absent
	TrustedProxies    TrustedProxies `yaml:"trusted_proxies"` // in front of Listen
	DataDir           string         `yaml:"data_dir"`
	AvailabilityZones []string       `yaml:"availability_zones"`
	DefaultVolumeType string         `yaml:"default_volume_type"` // a name

	Catalog CatalogConfig `yaml:"catalog"`
	Process ProcessConfig `yaml:"process"` // where several serve the zone
	// SharedDir is what all processes of the zone have: the zone's key, images,
	// the audit log's files. The data directory if empty.
	SharedDir string `yaml:"shared_dir"`

	Peer    PeerConfig   `yaml:"peer"`
	Peers   []PeerZone   `yaml:"peers"`
	Exports ExportConfig `yaml:"exports"`

	Placement   PlacementConfig    `yaml:"placement"`
	Stores      []StoreConfig      `yaml:"stores"`
	Backends    []BackendConfig    `yaml:"backends"`
	VolumeTypes []TypeConfig       `yaml:"volume_types"`
	Protections []ProtectionConfig `yaml:"protections"`
	Relays      []RelayConfig      `yaml:"relays"`
	Backup      *BackupConfig      `yaml:"backup"` // where backups are kept; there are none if absent

	Identity IdentityConfig `yaml:"identity"`
	KvolAPI  KvolAPIConfig  `yaml:"kvol_api"`
	Block    BlockAPIConfig `yaml:"block_api"`
	Policy   PolicyConfig   `yaml:"policy"`
	Nova     NovaConfig     `yaml:"nova"`
	Keystone KeystoneConfig `yaml:"keystone"`
	Glance   GlanceConfig   `yaml:"glance"`

	KeyManager KeyManagerConfig `yaml:"key_manager"`

	// IsolatedStart says when exports of a protected volume open after a start,
	// given that it may have been recovered elsewhere meanwhile: when "all" of
	// its backup zones were asked (the default), when "any" of them was, or at
	// once ("serve").
	IsolatedStart string `yaml:"isolated_start"`
	// KeepUndo is how long what was written to a volume after the point as which it
	// lives on in another zone is kept as a snapshot; 7 days if absent.
	KeepUndo time.Duration `yaml:"keep_undo"`
	DR       DRConfig      `yaml:"dr"`
	// MetricsToken, if set, must be given as Bearer token to read /metrics.
	MetricsToken string `yaml:"metrics_token"`
}

// CatalogConfig says where what exists is written down: in a file of the data
// directory, unless a database is named.
type CatalogConfig struct {
	URL string `yaml:"url"` // of a PostgreSQL database, "postgres://user:password@host/name"
}

// TLSFiles are PEM files. ClientCA, if set, makes client certificates needed.
type TLSFiles struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client_ca"`
}

// PeerConfig is this zone's end of the zone-to-zone listener (mutual TLS only).
type PeerConfig struct {
	Listen string `yaml:"listen"`
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	CA     string `yaml:"ca"`
}

// PeerZone is another zone and the URL of its peer listener.
type PeerZone struct {
	Zone block.Zone `yaml:"zone"`
	URL  string     `yaml:"url"`
}

// ExportConfig says how hosts reach the bytes.
type ExportConfig struct {
	NBD        string    `yaml:"nbd"`         // host:port
	NBDSocket  string    `yaml:"nbd_socket"`  // path of a Unix socket beside it; none if empty
	ISCSI      string    `yaml:"iscsi"`       // host:port
	PublicHost string    `yaml:"public_host"` // host that connection_info names; NBD's host if empty
	TLS        *TLSFiles `yaml:"tls"`
	RequireTLS bool      `yaml:"require_tls"`

	Discovery DiscoveryConfig `yaml:"discovery"`

	Limits ExportLimits `yaml:"limits"`
	// VolumeQoS are the QoS specs of single volumes, in the place of their type's.
	VolumeQoS map[block.VolumeID]map[string]int64 `yaml:"volume_qos"`
}

// DiscoveryConfig is CHAP's for discovery sessions of iSCSI; "" asks for none.
type DiscoveryConfig struct {
	User         string `yaml:"user"`
	Secret       string `yaml:"secret"`
	TargetUser   string `yaml:"target_user"` // shown to initiators that ask for it
	TargetSecret string `yaml:"target_secret"`
}

// ExportLimits bound what hosts can make the zone hold, for NBD and for iSCSI
// each; 0 means the default of nbd.Limits and iscsi.Limits.
type ExportLimits struct {
	Connections       int           `yaml:"connections"`
	ClientConnections int           `yaml:"client_connections"`
	ExportConnections int           `yaml:"export_connections"`
	MemoryMiB         int           `yaml:"memory_mib"`
	Stall             time.Duration `yaml:"stall"`
}

// StoreConfig is a place where one driver keeps bytes.
type StoreConfig struct {
	Name       string `yaml:"name"`
	Driver     string `yaml:"driver"` // logstore, rbd, nfs, or mem for trials
	Dir        string `yaml:"dir"`
	SegmentMiB int64  `yaml:"segment_mib"`
	CacheMiB   int64  `yaml:"cache_mib"`
	MaxGiB     int64  `yaml:"max_gib"`     // 0: the file system's room
	ScrubMiB   int64  `yaml:"scrub_mib_s"` // MiB read and checked each second; 0: never

	Reserved int           `yaml:"reserved_percentage"`                   // of its room, that volumes may not take
	Ratio    OverSubscribe `yaml:"max_over_subscription_ratio,omitempty"` // no bound if absent

	RBD RBDConfig `yaml:"rbd"` // where driver is rbd
	NFS NFSConfig `yaml:"nfs"` // where driver is nfs; the directory is dir
}

// RBDConfig says where a store of Ceph keeps its images.
type RBDConfig struct {
	Conf      string        `yaml:"conf"`       // path of ceph.conf
	User      string        `yaml:"user"`       // without "client."; default "admin"
	Pool      string        `yaml:"pool"`       // default "rbd"
	Namespace string        `yaml:"namespace"`  // of the pool; made with `rbd namespace create`
	Timeout   time.Duration `yaml:"timeout"`    // of one step of a change; default 10s
	IOTimeout time.Duration `yaml:"io_timeout"` // of a read or write; default 30s
	Hosts     *RBDHosts     `yaml:"hosts"`      // hosts use the images themselves; by exports only if absent
}

// RBDHosts says as whom hosts of a Ceph cluster use images. None of it is secret.
type RBDHosts struct {
	User       string `yaml:"user"`        // without "client."; none where the cluster asks for no keys
	SecretUUID string `yaml:"secret_uuid"` // by which libvirt knows that user's key
	Cluster    string `yaml:"cluster"`     // the cluster's name; default "ceph"
}

// BackendConfig is a share of a store; see block.Backend.
type BackendConfig struct {
	Name      string `yaml:"name"`
	Store     string `yaml:"store"`
	SVMName   string `yaml:"svm_name"`
	SVMIP     string `yaml:"svm_ip"`
	ClusterIP string `yaml:"cluster_ip"`
	Path      string `yaml:"path"`

	VolumeBackendName string            `yaml:"volume_backend_name"` // what types call it beside its name
	AvailabilityZones []string          `yaml:"availability_zones"`  // all if absent
	Capabilities      map[string]string `yaml:"capabilities"`        // for types' extra specs
}

// TypeConfig is a volume type.
type TypeConfig struct {
	ID          block.TypeID      `yaml:"id"` // any form of a UUID
	Name        string            `yaml:"name"`
	Description *string           `yaml:"description"`
	Private     bool              `yaml:"private"`
	ExtraSpecs  map[string]string `yaml:"extra_specs"`
	QoS         map[string]int64  `yaml:"qos"` // Cinder's QoS specs, for each volume of the type

	written block.TypeID // the id in the form that the file has
}

// ProtectionConfig is a policy of this zone as the source; see
// block.Protection. The destination's backend is named as the destination
// names it; its addresses are learnt from that zone.
type ProtectionConfig struct {
	Seq           int64             `yaml:"seq"`
	VolumeType    string            `yaml:"volume_type"` // name or id
	Destination   block.Zone        `yaml:"destination"`
	BackupBackend BackendConfig     `yaml:"backup_backend"`
	Interval      time.Duration     `yaml:"interval"`   // 1s if absent
	RPOTarget     time.Duration     `yaml:"rpo_target"` // three intervals, at least 15s, if absent
	Lease         time.Duration     `yaml:"lease"`      // none if absent
	Retention     []RetentionConfig `yaml:"retention"`
	Disabled      bool              `yaml:"disabled"`
	// Transport is how bytes get there: stream if absent, or rbd-mirror, where both
	// stores are of driver rbd and their clusters mirror the pool.
	Transport string `yaml:"transport"`
}

// RetentionConfig is one tier: the newest point of every Step, kept For.
type RetentionConfig struct {
	Step time.Duration `yaml:"step"`
	For  time.Duration `yaml:"for"`
}

// IdentityConfig is what the embedded identity service starts with.
type IdentityConfig struct {
	TokenTTL time.Duration   `yaml:"token_ttl"` // 12h if absent
	Projects []ProjectConfig `yaml:"projects"`
	Users    []UserConfig    `yaml:"users"`
}

// ProjectConfig is a tenant.
type ProjectConfig struct {
	ID          block.ProjectID `yaml:"id"`
	Name        string          `yaml:"name"`
	Description string          `yaml:"description"`
}

// UserConfig is a user. Password may be given in clear in a file that only the
// operator reads, or as the argon2id hash that `kvol user hash` prints.
type UserConfig struct {
	ID           block.UserID `yaml:"id"`
	Name         string       `yaml:"name"`
	Password     string       `yaml:"password"`
	PasswordHash string       `yaml:"password_hash"`
	Roles        []RoleConfig `yaml:"roles"`
}

// RoleConfig gives a user a role in a project, named by name or id.
type RoleConfig struct {
	Project string `yaml:"project"`
	Role    string `yaml:"role"` // admin, member, reader
}

// KvolAPIConfig is about the kvol API.
type KvolAPIConfig struct {
	Users               []KvolUser    `yaml:"users"`
	TokenTTL            time.Duration `yaml:"token_ttl"`             // 1h if absent
	TimeZone            string        `yaml:"time_zone"`             // of its times; UTC if absent
	InternalErrorStatus int           `yaml:"internal_error_status"` // 405 as documented, or 500
	// SilentRivals says what becomes of a recovery by the kvol API while a third
	// zone that may have taken the volume over does not answer: refuse, or accept.
	SilentRivals string `yaml:"silent_rivals"`
}

// KvolUser is a user of the kvol API.
type KvolUser struct {
	Name         string `yaml:"name"`
	Password     string `yaml:"password"`
	PasswordHash string `yaml:"password_hash"`
}

// BlockAPIConfig is about the block storage API.
type BlockAPIConfig struct {
	V2ExtraFields      bool   `yaml:"v2_extra_fields"`
	V2UploadTypeFormat string `yaml:"v2_upload_type_format"` // rows or map
}

// PolicyConfig says by which rules callers of the block storage API are judged.
type PolicyConfig struct {
	File string `yaml:"file"` // rules of oslo.policy over Cinder's defaults; none if empty
	// EnforceNewDefaults is oslo.policy's option of that name; true if absent.
	EnforceNewDefaults *bool `yaml:"enforce_new_defaults"`
}

// LoadConfig reads and checks a zone's configuration file. Errors name the
// line.
func LoadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := ParseConfig(text, dir)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a configuration; unknown keys are errors. Relative paths
// are taken from dir.
func ParseConfig(text []byte, dir string) (Config, error) {
	var c Config
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return Config{}, errors.New(yaml.FormatError(err, false, true))
	}
	c.defaults(dir)
	c.readIDs()
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) defaults(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	or := func(p *string, value string) {
		if *p == "" {
			*p = value
		}
	}
	or(&c.Region, string(c.Zone))
	or(&c.DataDir, "data")
	or(&c.IsolatedStart, "all")
	or(&c.KvolAPI.TimeZone, "UTC")
	or(&c.KvolAPI.SilentRivals, "refuse")
	or(&c.Block.V2UploadTypeFormat, "rows")
	or(&c.SharedDir, c.DataDir)
	abs(&c.DataDir)
	abs(&c.SharedDir)
	abs(&c.Exports.NBDSocket)
	abs(&c.Policy.File)
	files := []*string{&c.Peer.Cert, &c.Peer.Key, &c.Peer.CA, &c.KeyManager.CA, &c.Process.CA, &c.Keystone.CA,
		&c.Glance.CA}
	for _, t := range []*TLSFiles{c.TLS, c.Exports.TLS} {
		if t != nil {
			files = append(files, &t.Cert, &t.Key, &t.ClientCA)
		}
	}
	if c.Backup != nil {
		files = append(files, c.Backup.files()...)
	}
	for _, f := range files {
		abs(f)
	}
	for i := range c.Stores {
		or(&c.Stores[i].Dir, c.Stores[i].Name)
		if !filepath.IsAbs(c.Stores[i].Dir) {
			c.Stores[i].Dir = filepath.Join(c.DataDir, c.Stores[i].Dir)
		}
	}
	for i := range c.Protections {
		if c.Protections[i].Interval == 0 {
			c.Protections[i].Interval = time.Second
		}
	}
	if len(c.AvailabilityZones) == 0 {
		c.AvailabilityZones = []string{string(c.Zone)}
	}
	if c.KvolAPI.TokenTTL == 0 {
		c.KvolAPI.TokenTTL = time.Hour
	}
	if c.KvolAPI.InternalErrorStatus == 0 {
		c.KvolAPI.InternalErrorStatus = 405
	}
	if c.Identity.TokenTTL == 0 {
		c.Identity.TokenTTL = 12 * time.Hour
	}
}
