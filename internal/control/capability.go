package control

import (
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
)

// noBackend is what Cinder's scheduler finds later, and its users learn from an
// error status.
func noBackend() error {
	return block.Errorf(block.Unavailable, "No backend of this zone can hold the volume.")
}

// backendOf is where volumes of a type lie: on the first backend whose name and
// capabilities are as its extra specs say; for a type that names none, and for
// nil, on the zone's default backend or the only one.
func (s *Service) backendOf(t *block.VolumeType) (string, error) {
	all := s.backends.Backends()
	if t == nil || t.BackendName() == "" {
		name := s.cfg.DefaultBackend
		all = slices.DeleteFunc(slices.Clone(all), func(b block.Backend) bool {
			return name != "" && b.Name != name || name == "" && len(all) != 1
		})
	}
	for _, b := range all {
		if t == nil || s.satisfies(b, *t) {
			return b.Name, nil
		}
	}
	return "", noBackend()
}

// capabilities are what every backend of a zone can do, by the names that
// Cinder's drivers report.
var capabilities = map[string][]string{
	"vendor_name": {"kvol"}, "storage_protocol": {"iSCSI", "nbd"}, "QoS_support": {"True"},
	"thin_provisioning_support": {"True"}, "thick_provisioning_support": {"False"}, "online_extend_support": {"True"},
	"multiattach": {"True"}, "backend_state": {"up"},
}

// satisfies reports whether a backend is as a type's extra specs want it
// (cinder/scheduler/filters/capabilities_filter.py): those scoped with
// "capabilities:", and those without a scope that name a capability. Specs that
// name none mean nothing here, where Cinder finds no backend.
func (s *Service) satisfies(b block.Backend, t block.VolumeType) bool {
	for key, wanted := range t.ExtraSpecs {
		name, scoped := strings.CutPrefix(key, "capabilities:")
		if !scoped && strings.Contains(key, ":") {
			continue
		}
		has, known := capabilities[name]
		switch name {
		case "volume_backend_name":
			has, known = []string{b.Name}, true
		case "replication_enabled": // by the configuration's protections
			has, known = []string{pyBool(s.protected(t.ID))}, true
		}
		if !known && !scoped || name == "multiattach" && wanted != isTrue {
			continue
		}
		if !slices.ContainsFunc(has, func(value string) bool { return fits(value, wanted) }) {
			return false
		}
	}
	return true
}

func pyBool(v bool) string {
	if v {
		return "True"
	}
	return "False"
}

// fits compares a capability with what an extra spec wants of it
// (cinder/scheduler/filters/extra_specs_ops.py, match).
func fits(value, wanted string) bool {
	words := strings.Fields(wanted)
	if len(words) < 2 {
		return value == wanted
	}
	switch operator, than := words[0], words[1]; operator {
	case "<or>":
		for i := 1; i < len(words); i += 2 {
			if words[i] == value {
				return true
			}
		}
		return false
	case "<is>":
		return truth(value) == truth(than)
	case "<in>":
		return strings.Contains(value, than)
	case "s==", "s!=", "s<", "s<=", "s>", "s>=":
		return compares(strings.Compare(value, than), operator[1:])
	case "=", "==", "!=", ">=", "<=":
		a, err1 := strconv.ParseFloat(value, 64)
		b, err2 := strconv.ParseFloat(than, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		if operator == "=" {
			operator = ">="
		}
		switch {
		case a < b:
			return compares(-1, operator)
		case a > b:
			return compares(1, operator)
		}
		return compares(0, operator)
	}
	return value == wanted
}

// truth reads a word as oslo_utils' bool_from_string does.
func truth(word string) bool {
	return slices.Contains([]string{"1", "t", "true", "on", "y", "yes"}, strings.ToLower(word))
}

// compares reports whether an order of two values is as an operator wants it.
func compares(order int, operator string) bool {
	switch operator {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}
