// Package qos limits how much of a store one volume may take: requests and
// bytes a second, for reads, writes and both, with bursts. Its keys and what
// they mean are Cinder's (the QoS specs that nova and os-brick understand). It
// counts and tells how long to wait; whoever carries out the requests waits.
package qos

import (
	"maps"
	"math"
	"slices"

	"kvol/internal/block"
)

// Rate is a limit: PerSecond in the long run, and Burst units at once after a
// second of rest. A zero PerSecond is no limit. Without Burst a tenth of a
// second's worth may come at once.
type Rate struct{ PerSecond, Burst int64 }

// Kind is the limits of one kind of request.
type Kind struct{ Requests, Bytes Rate }

// Limits are those of one volume. The zero Limits limit nothing.
type Limits struct {
	Total, Read, Write Kind
	// RequestSize, if not 0, is how many bytes count as one request: larger ones
	// count as several.
	RequestSize int64
}

// Keys of size_iops_sec and of the ends that keys may have.
const (
	keySize = "size_iops_sec"
	perGB   = "_per_gb"
	leastGB = "_per_gb_min"
	most    = "_max"
)

// rates are the places of each key in l.
func (l *Limits) rates() map[string]*Rate {
	return map[string]*Rate{
		"total_iops_sec": &l.Total.Requests, "total_bytes_sec": &l.Total.Bytes,
		"read_iops_sec": &l.Read.Requests, "read_bytes_sec": &l.Read.Bytes,
		"write_iops_sec": &l.Write.Requests, "write_bytes_sec": &l.Write.Bytes,
	}
}

// Check returns Invalid, with a sentence, for specs that mean nothing: unknown
// keys, numbers below 1, a total beside its parts (as libvirt refuses), a burst
// without its rate or below it.
func Check(specs map[string]int64) error {
	known := map[string]bool{keySize: true}
	for key := range (&Limits{}).rates() {
		known[key], known[key+most], known[key+perGB], known[key+leastGB] = true, true, true, true
	}
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		if !known[key] {
			return block.Errorf(block.Invalid, "%s is no key of QoS specs", key)
		}
		if specs[key] < 1 {
			return block.Errorf(block.Invalid, "%s: %d is below 1", key, specs[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys((&Limits{}).rates())) {
		rate, scaled, burst := specs[key], specs[key+perGB], specs[key+most]
		switch {
		case rate != 0 && scaled != 0:
			return block.Errorf(block.Invalid, "%s and %s exclude each other", key, key+perGB)
		case specs[key+leastGB] != 0 && scaled == 0:
			return block.Errorf(block.Invalid, "%s is missing beside %s", key+perGB, key+leastGB)
		case burst != 0 && rate == 0 && scaled == 0:
			return block.Errorf(block.Invalid, "%s is missing beside %s", key, key+most)
		case burst != 0 && scaled == 0 && burst < rate:
			return block.Errorf(block.Invalid, "%s is below %s", key+most, key)
		}
	}
	for _, unit := range []string{"_iops_sec", "_bytes_sec"} {
		given := func(kind string) bool { return specs[kind+unit] != 0 || specs[kind+unit+perGB] != 0 }
		if given("total") && (given("read") || given("write")) {
			return block.Errorf(block.Invalid, "total%s excludes read%s and write%s", unit, unit, unit)
		}
	}
	return nil
}

// Resolve returns specs for a volume of a size in GiB, without the keys that
// depend on it, as cinder/volume/manager.py _parse_connection_options does: such
// a rate is the size's multiple, at least its _per_gb_min, at most its _max.
func Resolve(specs map[string]int64, sizeGiB int64) map[string]int64 {
	out := maps.Clone(specs)
	for key := range (&Limits{}).rates() {
		scaled := specs[key+perGB]
		if scaled == 0 {
			continue
		}
		rate := int64(math.MaxInt64) // where the product is beyond it
		if sizeGiB == 0 || scaled <= math.MaxInt64/sizeGiB {
			rate = scaled * sizeGiB
		}
		rate = max(rate, specs[key+leastGB])
		if specs[key+most] != 0 {
			rate = min(rate, specs[key+most])
		}
		out[key] = rate
		delete(out, key+perGB)
		delete(out, key+leastGB)
		delete(out, key+most)
	}
	return out
}

// LimitsOf returns the limits that resolved specs stand for.
func LimitsOf(specs map[string]int64) Limits {
	l := Limits{RequestSize: specs[keySize]}
	for key, rate := range l.rates() {
		*rate = Rate{PerSecond: specs[key], Burst: specs[key+most]}
	}
	return l
}
