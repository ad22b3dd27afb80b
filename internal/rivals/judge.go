package rivals

import (
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
)

// Heard is what one zone said to a bid; nil for silence.
type Heard map[block.Zone]*Answer

// Outcome is what comes of a bid for one volume.
type Outcome struct {
	Epoch uint64   // granted by all that were asked; 0 where there was nobody to ask
	Err   error    // a *block.Error: why the volume must not be taken over
	Above uint64   // bid above this and ask again; 0 for no need
	Notes []string // whose silence was no hindrance
}

// Rule says what the silence of a zone means.
type Rule struct {
	Accept []block.Zone // an operator knows that these are dead or did not take it over
	// Unknown lets the silence of a zone be no hindrance of which nothing is known
	// that it bid for the volume or took it.
	Unknown bool
}

// Judge weighs what other zones said to a bid. suspects are the zones of which
// is known that they bid for the volume or took it over.
func Judge(b Bid, self block.Zone, heard Heard, suspects []block.Zone, rule Rule) Outcome {
	o := Outcome{Epoch: b.Epoch}
	silent := func(z block.Zone) bool { a, asked := heard[z]; return asked && a == nil }
	granted := func(z block.Zone) bool { a := heard[z]; return a != nil && (a.Granted || a.Above > 0) }
	for _, zone := range sorted(heard) {
		a := heard[zone]
		var err error
		switch {
		case a == nil && slices.Contains(rule.Accept, zone):
			o.Notes = append(o.Notes, fmt.Sprintf("zone %s was silent; an operator answers for it", zone))
		case a == nil && rule.Unknown && !slices.Contains(suspects, zone):
			o.Notes = append(o.Notes, fmt.Sprintf("zone %s was silent; nothing is known of it that would hinder", zone))
		case a == nil:
			err = Silence(zone, b)
		case a.Taken != nil && (a.Taken.Zone == self ||
			a.Taken.Zone != zone && (granted(a.Taken.Zone) ||
				silent(a.Taken.Zone) && slices.Contains(rule.Accept, a.Taken.Zone))):
			// It lives here, or whoever has it says that it is gone, or is dead.
		case a.Taken != nil:
			err = block.Errorf(block.Conflict, "Zone %s has taken volume %s of zone %s over, at %s: it lives on there as "+
				"volume %s.", a.Taken.Zone, b.Volume, b.SourceZone, at(a.Taken.At), a.Taken.Volume)
		case a.Busy != nil:
			err = block.Errorf(block.Conflict, "Zone %s is taking volume %s of zone %s over%s, since %s.", zone, b.Volume,
				b.SourceZone, as(a.Busy.Volume), at(a.Busy.Since))
		case a.Above > 0:
			o.Above = max(o.Above, a.Above)
		case !a.Granted:
			err = block.Errorf(block.Conflict, "Zone %s refuses that volume %s of zone %s is taken over: %s", zone, b.Volume,
				b.SourceZone, a.Refused)
		}
		if worse(o.Err, err) {
			o.Err = err
		}
	}
	return o
}

// worse reports whether an error says more than another: what is known says more
// than what is not.
func worse(than, err error) bool {
	return err != nil && (than == nil || block.Is(than, block.Unavailable) && !block.Is(err, block.Unavailable))
}

// Silence is the error of a zone that does not answer.
func Silence(zone block.Zone, b Bid) error {
	return block.Errorf(block.Unavailable, "Zone %s may have taken volume %s of zone %s over, and does not answer. If it "+
		"is known to be lost, or not to have done so, an administrator may say so: accept_rivals (--accept-rivals %s).",
		zone, b.Volume, b.SourceZone, zone)
}

func sorted(heard Heard) (zones []block.Zone) {
	for z := range heard {
		zones = append(zones, z)
	}
	slices.Sort(zones)
	return zones
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func as(v block.VolumeID) string {
	if v == "" {
		return ""
	}
	return " as volume " + string(v)
}
