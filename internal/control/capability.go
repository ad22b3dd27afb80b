package control

import (
	"maps"
	"slices"

	"kvol/internal/block"
	"kvol/internal/placement"
)

// noBackend is for what needs a backend at once, where Cinder's scheduler would
// find none later.
func noBackend() error {
	return block.Errorf(block.Unavailable, "No backend of this zone can hold the volume.")
}

// holders are the backends that may hold volumes of a type, by name, whatever
// room they have: those whose name and capabilities are as its extra specs say;
// for a type that names none, and for nil, the zone's default backend if it has
// one, else all.
func (s *Service) holders(t *block.VolumeType) (names []string) {
	for _, b := range s.sortedBackends() {
		if t != nil && !s.satisfies(b, *t) {
			continue
		}
		if only := s.defaultBackend(t); only != "" && only != b.Name {
			continue
		}
		names = append(names, b.Name)
	}
	return names
}

// defaultBackend is the only one on which volumes of a type may lie that names
// none; "" if there is no such bound.
func (s *Service) defaultBackend(t *block.VolumeType) string {
	if t != nil && placement.Names(t.ExtraSpecs) {
		return ""
	}
	return s.cfg.DefaultBackend
}

// backendOf is the first of holders.
func (s *Service) backendOf(t *block.VolumeType) (string, error) {
	names := s.holders(t)
	if len(names) == 0 {
		return "", noBackend()
	}
	return names[0], nil
}

// capabilities are what every backend of a zone can do, by the names that
// Cinder's drivers report.
var capabilities = map[string][]string{
	"vendor_name": {"kvol"}, "storage_protocol": {"iSCSI", "nbd"}, "QoS_support": {"True"},
	"thin_provisioning_support": {"True"}, "thick_provisioning_support": {"False"}, "online_extend_support": {"True"},
	"multiattach": {"True"}, "backend_state": {"up"},
}

// capabilitiesOf is what types' extra specs find at a backend, as it is for
// types that are protected, or are not.
func (s *Service) capabilitiesOf(b block.Backend, protected bool) map[string][]string {
	has := maps.Clone(capabilities)
	rules := s.cfg.Placing.Backends[b.Name]
	for name, value := range rules.Capabilities {
		has[name] = []string{value}
	}
	has["volume_backend_name"] = []string{b.Name}
	if rules.Name != "" && rules.Name != b.Name {
		has["volume_backend_name"] = []string{rules.Name, b.Name}
	}
	has["replication_enabled"] = []string{pyBool(protected)}
	return has
}

// satisfies reports whether a backend is as a type's extra specs want it.
func (s *Service) satisfies(b block.Backend, t block.VolumeType) bool {
	return placement.Unsatisfied(s.capable[s.protected(t.ID)][b.Name], t.ExtraSpecs) == ""
}

// holds reports whether volumes of a type may lie on a backend.
func (s *Service) holds(backend string, t block.VolumeType) bool {
	return slices.Contains(s.holders(&t), backend)
}

func pyBool(v bool) string {
	if v {
		return "True"
	}
	return "False"
}
