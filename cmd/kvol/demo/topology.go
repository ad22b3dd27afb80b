package demo

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/zone"
)

// The volume types that the demo uses, by zone: those of the kvol document.
const (
	typeMitaka1 = "6a21db69-dc6b-4423-834c-679ae153a638"
	typeKilo1   = "45856d65-9021-4702-b8a6-62d5326b8f4e"
	typeKilo2   = "9f2b6c1e-3d1a-4a4b-9c55-0e5d3a1f7b20"
	typeName    = "ssd_general"
)

// Topology is what demo.json says: all that a user needs to play with the
// zones.
type Topology struct {
	Zones    []ZonePlace `json:"zones"`
	Users    []UserPlace `json:"users"`
	KvolUser string      `json:"kvol_user"`
	KvolPass string      `json:"kvol_password"`
	dir      string
}

// ZonePlace is one zone of the demo.
type ZonePlace struct {
	Name        string            `json:"name"`
	URL         string            `json:"url"`
	IdentityURL string            `json:"identity_url"`
	Region      string            `json:"region"`
	PID         int               `json:"pid"`
	DataDir     string            `json:"data_dir"`
	Config      string            `json:"config"`
	VolumeTypes map[string]string `json:"volume_types"` // name -> id
}

// UserPlace is a user of the demo; all zones know the same ones.
type UserPlace struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	Password    string `json:"password"`
	ProjectID   string `json:"project_id"`
	ProjectName string `json:"project_name"`
	Role        string `json:"role"`
}

// plan is what is decided before anything is written: ports and secrets.
type plan struct {
	name, typeID string
	index        int
	api, peer    string // host:port
	nbd          string
	backends     []zone.BackendConfig
	protections  []zone.ProtectionConfig
	ceph         string // path of a ceph.conf; "" for an embedded store
	database     string // URL; "" for SQLite
}

// Elsewhere is what zones have in other places than below the demo's directory, by
// their names.
type Elsewhere struct {
	Ceph      map[string]string // paths of ceph.conf: volumes are images of the pool rbd, for client.admin
	Databases map[string]string // URLs of empty PostgreSQL databases
}

// place notes what of it is of which zone.
func (e Elsewhere) place(all []plan) error {
	known := map[string]*plan{}
	for i := range all {
		known[all[i].name] = &all[i]
	}
	for _, names := range []iter.Seq[string]{maps.Keys(e.Ceph), maps.Keys(e.Databases)} {
		for name := range names {
			if known[name] == nil {
				return fmt.Errorf("the demo has no zone %q; it has %s, %s and %s", name, all[0].name, all[1].name, all[2].name)
			}
		}
	}
	for name, p := range known {
		p.database = e.Databases[name]
		if conf := e.Ceph[name]; conf != "" {
			var err error
			if p.ceph, err = filepath.Abs(conf); err != nil {
				return err
			}
		}
	}
	return nil
}

func backend(name, ip, cluster string) zone.BackendConfig {
	return zone.BackendConfig{Name: name, Store: "main", SVMName: name, SVMIP: ip, ClusterIP: cluster, Path: "vol01"}
}

// plans are the three zones of the kvol document. A backup backend shares its
// store with the one that volumes are made on, so that recovery is a clone.
func plans() []plan {
	const kilo1, kilo2, mitaka1 = "192.0.2.103", "192.0.2.104", "192.0.2.105"
	bak1, bak2 := backend("k_svm_nfs_bak", "192.0.2.109", kilo1), backend("k_svm_nfs_bak2", "192.0.2.120", kilo2)
	protect := func(seq int64, to block.Zone, b zone.BackendConfig) zone.ProtectionConfig {
		return zone.ProtectionConfig{Seq: seq, VolumeType: typeName, Destination: to, BackupBackend: b, Interval: time.Second}
	}
	return []plan{
		{name: "mitaka1", index: 1, typeID: typeMitaka1,
			backends:    []zone.BackendConfig{backend("m_svm_nfs", "192.0.2.106", mitaka1)},
			protections: []zone.ProtectionConfig{protect(2, "kilo1", bak1), protect(4, "kilo2", bak2)}},
		{name: "kilo1", index: 2, typeID: typeKilo1,
			backends:    []zone.BackendConfig{backend("k_svm_nfs", "192.0.2.108", kilo1), bak1},
			protections: []zone.ProtectionConfig{protect(6, "kilo2", bak2)}},
		{name: "kilo2", index: 3, typeID: typeKilo2,
			backends:    []zone.BackendConfig{backend("k_svm_nfs2", "192.0.2.119", kilo2), bak2},
			protections: []zone.ProtectionConfig{protect(8, "kilo1", bak1)}},
	}
}

// prepare writes, into a directory that holds no demo yet, the zones'
// directories: certificates, configuration files, openrc files, clouds.yaml.
// Addresses are free ports on loopback unless base is above 0, then base and
// the eight after it.
func prepare(dir string, base int, e Elsewhere) (*Topology, error) {
	all := plans()
	if err := e.place(all); err != nil {
		return nil, err
	}
	for _, p := range all {
		if _, err := os.Lstat(filepath.Join(dir, p.name)); !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, fmt.Errorf("%s holds a demo already: remove it, or name another directory", dir))
		}
	}
	t := &Topology{dir: dir, KvolUser: "gabianet", KvolPass: secret()}
	for _, u := range []struct{ name, project, role string }{
		{"admin", "admin", "admin"}, {"alice", "blue", "member"}, {"bob", "green", "member"}} {
		t.Users = append(t.Users, UserPlace{Name: u.name, ID: hexID(), Password: secret(), ProjectID: hexID(),
			ProjectName: u.project, Role: u.role})
	}
	if err := addresses(all, base); err != nil {
		return nil, err
	}
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		place, err := t.writeZone(p, all, ca)
		if err != nil {
			return nil, err
		}
		t.Zones = append(t.Zones, place)
	}
	return t, t.writeClientFiles()
}

// addresses gives each zone its three ports. Free ports are found by holding
// all of them open at once, so that no two are the same.
func addresses(all []plan, base int) error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	next := func() (string, error) {
		if base > 0 {
			base++
			return fmt.Sprintf("127.0.0.1:%d", base-1), nil
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		held = append(held, l)
		return l.Addr().String(), nil
	}
	for i := range all {
		for _, address := range []*string{&all[i].api, &all[i].peer, &all[i].nbd} {
			var err error
			if *address, err = next(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Topology) writeZone(p plan, all []plan, ca *peer.CA) (ZonePlace, error) {
	dir := filepath.Join(t.dir, p.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ZonePlace{}, err
	}
	if err := writeCertificates(dir, ca, block.Zone(p.name)); err != nil {
		return ZonePlace{}, err
	}
	c := zone.Config{
		Zone: block.Zone(p.name), Index: p.index, Region: p.name, Listen: p.api, DataDir: "data",
		AvailabilityZones: []string{p.name + "-a"}, DefaultVolumeType: typeName,
		Peer:    zone.PeerConfig{Listen: p.peer, Cert: "zone.crt", Key: "zone.key", CA: "ca.crt"},
		Exports: zone.ExportConfig{NBD: p.nbd},
		Stores:  []zone.StoreConfig{{Name: "main", Driver: "logstore", SegmentMiB: 64}}, Backends: p.backends,
		Catalog: zone.CatalogConfig{URL: p.database},
		VolumeTypes: []zone.TypeConfig{{ID: block.TypeID(p.typeID), Name: typeName,
			ExtraSpecs: map[string]string{"volume_backend_name": p.backends[0].Name}}},
		Protections: p.protections,
		// One directory for all zones, as a bucket would be: what one exports the
		// others import.
		Backup:  &zone.BackupConfig{Directory: filepath.Join("..", "backups")},
		KvolAPI: zone.KvolAPIConfig{Users: []zone.KvolUser{{Name: t.KvolUser, Password: t.KvolPass}}},
	}
	if p.ceph != "" {
		c.Stores = []zone.StoreConfig{{Name: "main", Driver: "rbd", RBD: zone.RBDConfig{Conf: p.ceph, Pool: "rbd"}}}
	}
	for _, other := range all {
		if other.name != p.name {
			c.Peers = append(c.Peers, zone.PeerZone{Zone: block.Zone(other.name), URL: "https://" + other.peer})
		}
	}
	for _, u := range t.Users {
		c.Identity.Projects = append(c.Identity.Projects,
			zone.ProjectConfig{ID: block.ProjectID(u.ProjectID), Name: u.ProjectName})
		c.Identity.Users = append(c.Identity.Users, zone.UserConfig{ID: block.UserID(u.ID), Name: u.Name,
			Password: u.Password, Roles: []zone.RoleConfig{{Project: u.ProjectName, Role: u.Role}}})
	}
	file := filepath.Join(dir, "kvol.yaml")
	text, err := yaml.Marshal(c)
	if err != nil {
		return ZonePlace{}, err
	}
	place := ZonePlace{Name: p.name, URL: "http://" + p.api, IdentityURL: "http://" + p.api + "/identity/v3",
		Region: p.name, DataDir: filepath.Join(dir, "data"), Config: file,
		VolumeTypes: map[string]string{typeName: p.typeID}}
	return place, os.WriteFile(file, text, 0o600)
}

// writeCertificates writes what a zone needs to speak to the others. The
// authority's own key is written nowhere.
func writeCertificates(dir string, ca *peer.CA, name block.Zone) error {
	authority, err := ca.PEM()
	if err != nil {
		return err
	}
	issued, err := ca.IssueZone(name, time.Now(), "127.0.0.1")
	if err != nil {
		return err
	}
	for file, text := range map[string][]byte{"ca.crt": authority.Cert, "zone.crt": issued.Cert, "zone.key": issued.Key} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// save writes demo.json, with the zones' process ids as they are now.
func (t *Topology) save() error {
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.dir, "demo.json"), append(text, '\n'), 0o600)
}

// writeClientFiles writes openrc-<zone> for the first ordinary tenant and
// clouds.yaml with each user in each zone.
func (t *Topology) writeClientFiles() error {
	clouds := map[string]any{}
	for _, z := range t.Zones {
		u := t.Users[1]
		var rc strings.Builder
		fmt.Fprintf(&rc, "# source this file; other users are in demo.json and clouds.yaml\n")
		for _, kv := range [][2]string{{"OS_AUTH_URL", z.IdentityURL}, {"OS_IDENTITY_API_VERSION", "3"},
			{"OS_USERNAME", u.Name}, {"OS_PASSWORD", u.Password}, {"OS_PROJECT_NAME", u.ProjectName},
			{"OS_PROJECT_ID", u.ProjectID}, {"OS_USER_DOMAIN_NAME", "Default"}, {"OS_PROJECT_DOMAIN_NAME", "Default"},
			{"OS_REGION_NAME", z.Region}, {"OS_VOLUME_API_VERSION", "3"}, {"KVOL_URL", z.URL},
			{"KVOL_USER", t.KvolUser}, {"KVOL_PASSWORD", t.KvolPass}} {
			fmt.Fprintf(&rc, "export %s=%s\n", kv[0], kv[1])
		}
		if err := os.WriteFile(filepath.Join(t.dir, "openrc-"+z.Name), []byte(rc.String()), 0o600); err != nil {
			return err
		}
		for _, u := range t.Users {
			clouds[z.Name+"-"+u.Name] = map[string]any{
				"auth": map[string]any{"auth_url": z.IdentityURL, "username": u.Name, "password": u.Password,
					"project_name": u.ProjectName, "user_domain_name": "Default", "project_domain_name": "Default"},
				"region_name": z.Region, "identity_api_version": "3", "volume_api_version": "3",
			}
		}
	}
	text, err := yaml.Marshal(map[string]any{"clouds": clouds})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.dir, "clouds.yaml"), text, 0o600)
}

func (t *Topology) zone(name string) *ZonePlace {
	for i := range t.Zones {
		if t.Zones[i].Name == name {
			return &t.Zones[i]
		}
	}
	return nil
}

func secret() string { return rand.Text() }

func hexID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
