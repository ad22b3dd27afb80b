package block

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

func TestErrorKinds(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	for name, test := range map[string]struct {
		err     error
		kind    Kind
		message string // for the user; "" for none
		text    string
	}{
		"plain":      {cause, Internal, "", "unexpected EOF"},
		"classified": {Errorf(NotFound, "Volume %d", 7), NotFound, "Volume 7", "Volume 7"},
		"with cause": {Wrap(NoSpace, cause, "full"), NoSpace, "full", "full: unexpected EOF"},
		"internal":   {Wrap(Internal, cause, "secret"), Internal, "", "secret: unexpected EOF"},
		"around":     {fmt.Errorf("job: %w", Errorf(Stale, "old")), Stale, "old", "job: old"},
		"outermost":  {Wrap(Unavailable, Errorf(NotFound, "in"), "out"), Unavailable, "out", "out: in"},
		"joined":     {errors.Join(cause, Errorf(Corrupt, "bad")), Corrupt, "bad", "unexpected EOF\nbad"},
	} {
		message, ok := UserMessage(test.err)
		if KindOf(test.err) != test.kind || message != test.message || ok != (test.message != "") {
			t.Errorf("%s: %v, %q, %v", name, KindOf(test.err), message, ok)
		}
		if test.err.Error() != test.text {
			t.Errorf("%s: %q, want %q", name, test.err, test.text)
		}
		if !Is(test.err, test.kind) || Is(test.err, test.kind+1) {
			t.Errorf("%s: Is disagrees with KindOf", name)
		}
	}
	if Wrap(Invalid, nil, "x") != nil || Is(nil, Internal) {
		t.Error("no error is an error")
	}
	if !errors.Is(Wrap(Invalid, cause, "x"), cause) {
		t.Error("the cause is lost")
	}
	seen := map[string]bool{}
	for k := Internal; k <= Unsupported; k++ {
		if seen[k.String()] {
			t.Errorf("two kinds are called %s", k)
		}
		seen[k.String()] = true
	}
	if got := Kind(200).String(); got != "kind 200" {
		t.Error(got)
	}
}

func TestIDs(t *testing.T) {
	const dashed = "6bda35e2-b2b9-497a-8f65-67a73839c856"
	for in, want := range map[string]string{
		dashed:                                 dashed,
		"6BDA35E2-B2B9-497A-8F65-67A73839C856": dashed,
		"6bda35e2b2b9497a8f6567a73839c856":     dashed,
		"":                                     "",
		"6bda35e2-b2b9-497a-8f65-67a73839c85":  "",
		"6bda35e2-b2b9-497a-8f65-67a73839c85g": "",
		"6bda35e2xb2b9-497a-8f65-67a73839c856": "",
		"{" + dashed + "}":                     "",
		"urn:uuid:" + dashed:                   "",
		"../../../../../../../../etc/passwd..": "",
	} {
		if got, ok := ParseID(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
	if id, ok := ParseID(NewID()); !ok || id == NewID() {
		t.Error("a new id is none, or not new")
	}
	for in, want := range map[string]ProjectID{
		"84C9E9A2BB0D42F0A1C5A7F5B1F4E1C2": "84c9e9a2bb0d42f0a1c5a7f5b1f4e1c2", dashed: dashed, "demo": "",
	} {
		if got, ok := ParseProjectID(in); got != want || ok != (want != "") {
			t.Errorf("project %q: %q, %v", in, got, ok)
		}
	}
}

func TestExceeded(t *testing.T) {
	limits := map[string]int64{
		"volumes": 10, "gigabytes": 100, "snapshots": Unlimited, "gigabytes_gold": 50, "volumes_gold": 0,
	}
	limit := func(resource string) int64 {
		if l, ok := limits[resource]; ok {
			return l
		}
		return Unlimited
	}
	for name, test := range map[string]struct {
		inUse, delta Usage
		want         []string
	}{
		"fits exactly": {Usage{"volumes": 9, "gigabytes": 90}, Usage{"volumes": 1, "gigabytes": 10}, nil},
		"one more": {Usage{"volumes": 10, "gigabytes": 90}, Usage{"volumes": 1, "gigabytes": 10},
			[]string{"volumes"}},
		"both, in order": {Usage{"volumes": 10, "gigabytes": 91}, Usage{"gigabytes": 10, "volumes": 1},
			[]string{"volumes", "gigabytes"}},
		"unlimited":         {Usage{"snapshots": 1 << 40}, Usage{"snapshots": 1 << 40}, nil},
		"unknown":           {nil, Usage{"pigeons": 5}, nil},
		"over, but falling": {Usage{"volumes": 20}, Usage{"volumes": -1, "gigabytes": 0}, nil},
		"by type": {Usage{"gigabytes_gold": 50}, Usage{"gigabytes_gold": 1, "volumes_gold": 1, "gigabytes": 1},
			[]string{"gigabytes_gold", "volumes_gold"}},
	} {
		if got := Exceeded(test.inUse, test.delta, limit); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, test := range []struct {
		roles           []string
		admin, readOnly bool
	}{
		{nil, false, true},
		{[]string{"reader"}, false, true},
		{[]string{"reader", "member"}, false, false},
		{[]string{"admin"}, true, false},
		{[]string{"administrator"}, false, true},
	} {
		c := Caller{Roles: test.roles}
		if c.Admin() != test.admin || c.ReadOnly() != test.readOnly {
			t.Errorf("%v: admin %v, read only %v", test.roles, c.Admin(), c.ReadOnly())
		}
	}
}

func TestAttached(t *testing.T) {
	v := Volume{Attachments: []Attachment{{Status: "attaching"}, {Status: "detached"}}}
	if v.Attached() {
		t.Error("a volume that nobody holds yet is attached")
	}
	v.Attachments = append(v.Attachments, Attachment{Status: "attached"})
	if !v.Attached() {
		t.Error("not attached")
	}
}

func TestBackendNames(t *testing.T) {
	if got := (Backend{SVMIP: "10.0.0.1", Path: "vol01"}).ExportPath(); got != "10.0.0.1:/vol01" {
		t.Error(got)
	}
	if got := (VolumeType{ExtraSpecs: map[string]string{"volume_backend_name": "hdd"}}).BackendName(); got != "hdd" {
		t.Error(got)
	}
}
