package block

import (
	"maps"
	"slices"
)

// Usage is what a project holds, by quota resource name: "volumes",
// "gigabytes", "snapshots" and each with "_<type name>".
type Usage map[string]int64

// Unlimited is the limit that never refuses.
const Unlimited = int64(-1)

// DefaultQuotas are the limits of a project without settings of its own
// (cinder/quota.py; per-type resources default to Unlimited).
var DefaultQuotas = map[string]int64{
	"volumes": 10, "snapshots": 10, "gigabytes": 1000, "backups": 10, "backup_gigabytes": 1000,
	"per_volume_gigabytes": Unlimited, "groups": 10,
}

// Exceeded returns the names of the resources of delta whose limit would be
// passed, given what is in use; only rising resources can be. limits returns
// a resource's limit, Unlimited for none.
func Exceeded(inUse, delta Usage, limits func(resource string) int64) []string {
	var over []string
	for _, name := range []string{"volumes", "snapshots", "gigabytes"} {
		if exceeds(inUse[name], delta[name], limits(name)) {
			over = append(over, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(delta)) {
		d := delta[name]
		if name != "volumes" && name != "snapshots" && name != "gigabytes" && exceeds(inUse[name], d, limits(name)) {
			over = append(over, name)
		}
	}
	return over
}

func exceeds(inUse, delta, limit int64) bool {
	return delta > 0 && limit != Unlimited && inUse+delta > limit
}
