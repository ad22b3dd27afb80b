package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// auditZone is a zone that keeps few records, with files in memory.
type auditZone struct {
	*Service
	t       *testing.T
	catalog *catalog.Catalog
	clock   *testClock
	files   map[string]string
	fail    error // of writing a file
}

func newAuditZone(t *testing.T) *auditZone {
	t.Helper()
	z := &auditZone{t: t, files: map[string]string{}, clock: &testClock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	var err error
	z.catalog, err = catalog.Open(t.Context(), catalog.Options{Now: z.clock.now, Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(z.catalog.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	z.Service, err = New(Config{Catalog: z.catalog, Backends: set, Zone: "b", Now: z.clock.now, DR: DR{
		KeepAudit: 24 * time.Hour, KeepAudits: 100, AuditFile: func(name string, write func(io.Writer) error) error {
			var b bytes.Buffer
			if err := errors.Join(write(&b), z.fail); err != nil {
				return err
			}
			z.files[name] = b.String()
			return nil
		}}})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func (z *auditZone) update(fn func(*catalog.Tx) error) {
	z.t.Helper()
	if err := z.catalog.Update(z.t.Context(), fn); err != nil {
		z.t.Fatal(err)
	}
}

func (z *auditZone) add(n int) {
	z.update(func(tx *catalog.Tx) error {
		for i := range n {
			if err := tx.InsertAudit(block.Audit{User: "erin", Call: "recover", Params: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (z *auditZone) verify() AuditReport {
	z.t.Helper()
	r, err := z.VerifyAudit(z.t.Context(), everybody)
	if err != nil {
		z.t.Fatal(err)
	}
	return r
}

// TestOldRecordsAreSealed into files that go on from each other; what is left is
// whole, and no more than is to be kept.
func TestOldRecordsAreSealed(t *testing.T) {
	z := newAuditZone(t)
	z.add(30)
	z.clock.pass(25 * time.Hour)
	z.add(20)
	z.fail = errors.New("no room")
	if err := z.sealAudit(t.Context()); err == nil || z.verify().Base.Seq != 0 {
		t.Errorf("%v: records went without a file", err)
	}
	z.fail = nil
	for range 2 { // the second time there is nothing to do
		if err := z.sealAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	z.add(500)
	if err := z.sealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := z.verify()
	if len(r.Problems) != 0 || len(r.Seals) != 2 || r.Seals[0].Last.Seq != 30 || r.Head.Seq-r.Base.Seq > 110 {
		t.Errorf("%+v", r)
	}
	last := audit.Head{}
	for _, s := range r.Seals {
		f, err := audit.CheckFile(strings.NewReader(z.files[s.File]))
		if err != nil || len(f.Problems) != 0 || f.After != last || f.Last != s.Last || f.Zone != "b" ||
			f.Records != s.Records {
			t.Errorf("%s: %+v, %v", s.File, f, err)
		}
		last = f.Last
	}
	if last != r.Base {
		t.Errorf("the files end with %+v, the log goes on from %+v", last, r.Base)
	}
	page, err := z.AuditRecords(t.Context(), everybody, 0)
	if err != nil || page.After != r.Base || len(page.Rows) == 0 || page.Rows[0].Seq != r.Base.Seq+1 {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestRecordsThatWentWithoutASealAreMissed: who lets records go as sealing does,
// without the record that says so, is found out.
func TestRecordsThatWentWithoutASealAreMissed(t *testing.T) {
	z := newAuditZone(t)
	z.add(30)
	z.update(func(tx *catalog.Tx) error {
		rows, err := tx.AuditRows(0, 10)
		if err != nil {
			return err
		}
		return tx.SealAudit(catalog.AuditSeal{First: 1, Last: rows[9].Head, File: "none", Sum: "00"},
			block.Audit{Call: "list"})
	})
	if r := z.verify(); len(r.Problems) != 1 || r.Problems[0].Record != 10 {
		t.Errorf("%+v", r)
	}
}

// TestOtherZonesKeepWhatTheyWereTold: a log that goes on is followed, and one that
// was written anew, cut, or that jumps is not.
func TestOtherZonesKeepWhatTheyWereTold(t *testing.T) {
	z := newAuditZone(t)
	z.add(10)
	ask := func(after int64) AuditProof {
		t.Helper()
		p, err := z.ProveAudit(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := ask(0)
	if first.contradicts(audit.Head{}) != "" || first.Head.Seq != 10 {
		t.Fatalf("%+v", first)
	}
	z.add(5)
	next := ask(10)
	if next.contradicts(first.Head) != "" || next.Head.Seq != 15 || len(next.Digests) != 5 {
		t.Errorf("%+v", next)
	}
	other := first.Head
	other.Hash[0]++
	forged := next
	forged.Digests = append([]audit.Hash{{1}}, next.Digests[1:]...)
	sealed := next
	sealed.After.Seq = 12
	for name, c := range map[string]struct {
		p    AuditProof
		held audit.Head
		want string
	}{
		"another record":      {next, other, "written anew"},
		"it ends before":      {ask(99), audit.Head{Seq: 99, Hash: other.Hash}, "missing"},
		"digests that do not": {forged, first.Head, "do not follow"},
		"sealed unseen":       {sealed, first.Head, "in files only"},
	} {
		if why := c.p.contradicts(c.held); !strings.Contains(why, c.want) {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// TestAuditLogIsForAdministrators: others see nothing of it.
func TestAuditLogIsForAdministrators(t *testing.T) {
	z := newAuditZone(t)
	z.add(3)
	z.update(func(tx *catalog.Tx) error {
		return first(tx.PutAuditTold("a", audit.Head{Seq: 5}), tx.BreakAudit("a", "Its record 5 is missing."))
	})
	for name, ask := range map[string]func(c block.Caller) error{
		"Audits": func(c block.Caller) error {
			_, err := z.Audits(t.Context(), c, catalog.AuditQuery{Limit: 5})
			return err
		},
		"AuditRecords": func(c block.Caller) error { _, err := z.AuditRecords(t.Context(), c, 0); return err },
		"VerifyAudit":  func(c block.Caller) error { _, err := z.VerifyAudit(t.Context(), c); return err },
		"AuditHeads":   func(c block.Caller) error { _, _, err := z.AuditHeads(t.Context(), c); return err },
		"AcceptAudit":  func(c block.Caller) error { return z.AcceptAudit(t.Context(), c, "a") },
	} {
		for _, roles := range [][]string{{"member"}, {"reader"}, nil} {
			if err := ask(block.Caller{Project: "p", Roles: roles}); !block.Is(err, block.Forbidden) {
				t.Errorf("%s as %v: %v", name, roles, err)
			}
		}
		if err := ask(everybody); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := z.AcceptAudit(t.Context(), everybody, "a"); !block.Is(err, block.NotFound) {
		t.Errorf("accepted twice: %v", err)
	}
	calls, err := z.Audits(t.Context(), everybody, catalog.AuditQuery{Limit: 1})
	if err != nil || calls[0].Call != "audit accept" || !strings.Contains(calls[0].Params, "seq=5") {
		t.Errorf("%+v, %v", calls, err)
	}
}
