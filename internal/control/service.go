package control

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/export/iscsi"
	"kvol/internal/keystore"
	"kvol/internal/policy"
	"kvol/internal/vfs"
)

// Config is what a Service works with.
type Config struct {
	Catalog  *catalog.Catalog
	Backends *driver.Set
	Zone     block.Zone
	Region   string
	// ZoneIndex is this zone's residue class among rowkeys, 0 to 63.
	ZoneIndex int
	// DefaultType is the name of the type of volumes that ask for none; "" for
	// no type.
	DefaultType string
	// DefaultBackend holds volumes of no type and of types that name no backend.
	// Where it is "", every backend may.
	DefaultBackend string
	// AvailabilityZones are the names that tenants may use; the first is the
	// default.
	AvailabilityZones []string
	Placing           Placing
	Images            Images // nil: no image service
	TakeSigned        bool   // images with signatures are taken, and the signatures not verified
	// Backups is where backups are kept; nil for nowhere.
	Backups *backup.Repository
	// ExportAddress is where hosts reach the NBD exports, as "host:port"; "" if
	// they are not served on TCP. UnixSocket is the path of a local listener, if
	// there is one, and ExportTLS says whether TCP is served with TLS.
	ExportAddress func() string
	UnixSocket    func() string
	// ISCSIAddress is where hosts reach the iSCSI targets; "" if there are none.
	ISCSIAddress func() string
	// ISCSIDiscovery is what hosts show in discovery sessions; the zero value for
	// nothing.
	ISCSIDiscovery iscsi.Credentials
	ExportTLS      bool
	// Policy has the rules of who may do what; nil for Cinder's defaults.
	Policy *policy.Enforcer
	// VolumeQoS are the limits on single volumes, in the place of their types'
	// QoS specs, by the keys that qos.Check knows.
	VolumeQoS map[block.VolumeID]map[string]int64
	Key       [32]byte // the zone's key; names of exports are derived from it, and secrets sealed with it
	// Protections lists the policies as they are now; nil for none.
	Protections func() []block.Protection
	// TempDir is where images are converted, made if it is missing; what a killed
	// process of the zone left there is removed. The system's if "".
	TempDir string
	// Space tells how much the file system under a directory holds; that of the system
	// if nil.
	Space func(dir string) (vfs.Space, error)
	// QemuImg is the path of qemu-img, looked up in PATH if "".
	QemuImg string
	// OnChange, if set, is called after a commit that created or deleted a
	// volume or a snapshot of it. It must not block.
	OnChange func(block.VolumeID)
	// OnRemove, if set, is called when the bytes of a volume can't be removed from a store
	// because somebody reads them: replication is to let go. It must not block.
	OnRemove func(block.VolumeID)
	// VolumeEvent tells servers of the compute service what became of a volume which
	// they use; nil where there is none to tell. See compute.Nova.
	VolumeEvent func(ctx context.Context, event string, servers []string, volume block.VolumeID) error

	// Elsewhere, where another process of the zone serves its exports, has that one
	// look at some of them again (LookAgain), and waits until it has; nil for none. It
	// is called after a commit that ends exports.
	Elsewhere func(about ...string)
	// Leash, where other processes may take the exports over, waits until this one
	// surely has them, and is an error if another has; nil for none. Each use of an
	// export asks it.
	Leash func() error

	DR  DR               // what it knows of other zones
	Now func() time.Time // time.Now if nil
	Log *slog.Logger     // discarded if nil
}

// Service is the rules of one zone. Its methods may be called at once from
// many goroutines. Errors carry a block.Kind: Invalid for a request that is
// wrong or that the state does not allow (as Cinder answers), NotFound for what
// is not there or belongs to another project, OverLimit for quotas, Forbidden
// for what the caller's roles do not allow, Conflict only where Cinder answers
// 409, Unavailable where a part that is needed can't be reached.
type Service struct {
	cfg      Config
	catalog  *catalog.Catalog
	backends *driver.Set
	log      *slog.Logger
	now      func() time.Time
	devices  *devices
	exports  *Exports
	sealer   *keystore.Sealer
	peers    peerBook
	healing  *healing
	guards   guards
	stock    rooms

	conversions conversions                             // of images, under way
	capable     map[bool]map[string]map[string][]string // of types that are protected or not, and by backend; only read

	operating operating
	contest   contest
	watch     watch
	told      told
	leases    leases // that other zones granted this one
	grants    grants // that this zone gave
	limits    limits
	setAside  atomic.Int64 // see SetAside
}

// New makes a Service. A default backend that is not configured is Invalid.
func New(cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, catalog: cfg.Catalog, backends: cfg.Backends, log: cfg.Log, now: cfg.Now,
		healing: newHealing()}
	if s.now == nil {
		s.now = time.Now
	}
	if s.cfg.Space == nil {
		s.cfg.Space = vfs.System{}.Space
	}
	s.leases.now, s.grants = s.now, newGrants(s.now())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.DefaultBackend != "" {
		if _, ok := s.backends.Backend(s.cfg.DefaultBackend); !ok {
			return nil, block.Errorf(block.Invalid, "the default backend %q is not configured", s.cfg.DefaultBackend)
		}
	}
	if err := s.emptyScratch(); err != nil {
		return nil, err
	}
	var err error
	if s.sealer, err = keystore.NewSealer(cfg.Key); err != nil {
		return nil, err
	}
	s.devices, s.exports = newDevices(s.backends), newExports(s, cfg.Key)
	s.capable = map[bool]map[string]map[string][]string{false: {}, true: {}}
	for _, b := range s.backends.Backends() {
		s.capable[false][b.Name], s.capable[true][b.Name] = s.capabilitiesOf(b, false), s.capabilitiesOf(b, true)
	}
	// Now, since policies are looked up within views of the catalog, which may have no
	// connection for a second view.
	return s, s.book(context.Background(), func(*peerBook) {})
}

// Admit returns a caller as the zone's rules are now to judge it. Front ends
// call it once for each request, after they know who asks.
func (s *Service) Admit(c block.Caller) block.Caller {
	if s.cfg.Policy == nil {
		return policy.Default().Judging(c)
	}
	return s.cfg.Policy.Rules().Judging(c)
}

// changed tells that a volume or its snapshots changed.
func (s *Service) changed(id block.VolumeID) {
	if s.cfg.OnChange != nil {
		s.cfg.OnChange(id)
	}
}
