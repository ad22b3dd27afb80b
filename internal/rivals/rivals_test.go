package rivals_test

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/rivals"
)

var since = time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC)

// TestDecide says what a zone answers by what it knows.
func TestDecide(t *testing.T) {
	here := &block.Recovered{Zone: "b", Volume: "x", Epoch: 65}
	theirs := &block.Recovered{Zone: "c", Volume: "y", Epoch: 66}
	busy := &rivals.Busy{Volume: "x", Since: since}
	for name, c := range map[string]struct {
		known rivals.Known
		epoch uint64
		want  string
	}{
		"nothing":                    {rivals.Known{}, 66, "granted"},
		"taken here":                 {rivals.Known{Taken: here}, 999, "taken"},
		"taken by who asks":          {rivals.Known{Taken: theirs, Seen: 66}, 130, "granted"},
		"being taken":                {rivals.Known{Busy: busy}, 999, "busy"},
		"a higher live bid":          {rivals.Known{Live: busy, Own: 129}, 66, "busy"},
		"a lower live bid":           {rivals.Known{Live: busy, Own: 65}, 66, "granted"},
		"a higher bid of a dead day": {rivals.Known{Own: 129}, 66, "above 129"},
		"a higher grant":             {rivals.Known{Bids: 67}, 66, "above 67"},
		"an equal one":               {rivals.Known{Seen: 66}, 66, "above 66"},
		"a look":                     {rivals.Known{Own: 129, Bids: 200}, 0, "granted"},
		"a look at what is taken":    {rivals.Known{Taken: here}, 0, "taken"},
	} {
		a := rivals.Decide(c.known, "c", "b", rivals.Bid{SourceZone: "a", Volume: "v", Epoch: c.epoch})
		got := ""
		switch {
		case a.Granted:
			got = "granted"
		case a.Taken != nil:
			got = "taken"
		case a.Busy != nil:
			got = "busy"
		case a.Above > 0:
			got = "above " + map[uint64]string{129: "129", 67: "67", 66: "66"}[a.Above]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s (%+v)", name, got, c.want, a)
		}
	}
}

// TestJudge says what comes of the answers; silence is a refusal unless somebody
// answers for it.
func TestJudge(t *testing.T) {
	granted := &rivals.Answer{Granted: true}
	taken := &rivals.Answer{Taken: &block.Recovered{Zone: "c", Volume: "y", At: since}}
	b := rivals.Bid{SourceZone: "a", Volume: "v", Epoch: 65}
	for name, c := range map[string]struct {
		heard    rivals.Heard
		suspects []block.Zone
		rule     rivals.Rule
		says     string // "" for yes
	}{
		"nobody to ask": {heard: rivals.Heard{}},
		"all grant":     {heard: rivals.Heard{"c": granted, "d": granted}},
		"one has it":    {heard: rivals.Heard{"c": taken, "d": granted}, says: "02:03:04 UTC: it lives on there as volume y"},
		"one is silent": {heard: rivals.Heard{"c": nil, "d": granted}, says: "accept_rivals (--accept-rivals c)"},
		"answered for":  {heard: rivals.Heard{"c": nil}, rule: rivals.Rule{Accept: []block.Zone{"c"}}},
		"for another one": {heard: rivals.Heard{"c": nil}, rule: rivals.Rule{Accept: []block.Zone{"d"}},
			says: "does not answer"},
		"who answers is believed": {heard: rivals.Heard{"c": taken}, rule: rivals.Rule{Accept: []block.Zone{"c"}},
			says: "Zone c has taken volume v of zone a over"},
		"planned, nothing known": {heard: rivals.Heard{"c": nil}, rule: rivals.Rule{Unknown: true}},
		"planned, it bid": {heard: rivals.Heard{"c": nil}, suspects: []block.Zone{"c"}, rule: rivals.Rule{Unknown: true},
			says: "does not answer"},
		"hearsay, and it is gone": {heard: rivals.Heard{"c": granted, "d": taken}},
		"hearsay of a dead one":   {heard: rivals.Heard{"c": nil, "d": taken}, rule: rivals.Rule{Accept: []block.Zone{"c"}}},
		"hearsay":                 {heard: rivals.Heard{"d": taken}, says: "Zone c has taken"},
		"known says more":         {heard: rivals.Heard{"b": nil, "c": taken}, says: "Zone c has taken"},
		"busy": {heard: rivals.Heard{"c": {Busy: &rivals.Busy{Volume: "z", Since: since}}},
			says: "Zone c is taking volume v of zone a over as volume z, since 2026-03-01 02:03:04 UTC."},
	} {
		o := rivals.Judge(b, "self", c.heard, c.suspects, c.rule)
		if (o.Err == nil) != (c.says == "") || o.Err != nil && !strings.Contains(o.Err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, o.Err, c.says)
		}
	}
	o := rivals.Judge(b, "self", rivals.Heard{"c": {Above: 130}, "d": {Above: 67}}, nil, rivals.Rule{})
	if o.Err != nil || o.Above != 130 {
		t.Errorf("%+v", o)
	}
}

// TestEpochsOfZonesAreNeverEqual draws epochs for all zones from all that may be
// known.
func TestEpochsOfZonesAreNeverEqual(t *testing.T) {
	for known := range uint64(300) {
		given := map[uint64]bool{}
		for index := range block.EpochClasses {
			e := block.NextEpoch(known, index)
			if e <= known || e == 1 || given[e] || e%block.EpochClasses != uint64(index) {
				t.Fatalf("zone %d takes epoch %d above %d", index, e, known)
			}
			given[e] = true
		}
	}
}
