package placement

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// backendName is the extra spec, and the capability, by which types name
// backends.
const backendName = "volume_backend_name"

// Names reports whether a type's extra specs say on which backends its volumes
// lie.
func Names(specs map[string]string) bool {
	return specs[backendName] != "" || specs["capabilities:"+backendName] != ""
}

// Unsatisfied says which extra spec of a type a backend's capabilities don't
// satisfy; "" for none (cinder/scheduler/filters/capabilities_filter.py). Asked
// are those scoped with "capabilities:", and those without a scope that name a
// capability. Specs without a scope that name none mean nothing here, where
// Cinder finds no backend.
func Unsatisfied(has map[string][]string, specs map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		wanted := specs[key]
		name, scoped := strings.CutPrefix(key, "capabilities:")
		if !scoped && strings.Contains(key, ":") {
			continue
		}
		values, known := has[name]
		if !known && !scoped || name == "multiattach" && wanted != "<is> True" {
			continue
		}
		if !slices.ContainsFunc(values, func(value string) bool { return Fits(value, wanted) }) {
			return fmt.Sprintf("%s is %q, and the type wants %q", name, strings.Join(values, ", "), wanted)
		}
	}
	return ""
}

// Fits compares a capability with what an extra spec wants of it
// (cinder/scheduler/filters/extra_specs_ops.py, match).
func Fits(value, wanted string) bool {
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
		return numbers(value, operator, than)
	}
	return value == wanted
}

func numbers(value, operator, than string) bool {
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
