package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
)

// auditCatalog has n records, in a file.
func auditCatalog(t *testing.T, n int) (*Catalog, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.db")
	c, err := Open(t.Context(), options(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := block.WithRequester(t.Context(), block.Requester{User: "erin", Remote: "10.0.0.9", Roles: []string{"admin"},
		Project: "ops"})
	for i := range n {
		err := c.Update(ctx, func(tx *Tx) error {
			return tx.InsertAudit(block.Audit{User: "erin", Call: "recover", Params: fmt.Sprint("volume ", i), Code: 202,
				Operation: fmt.Sprint("op", i)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return c, path
}

// whole goes over the log as verify does.
func whole(t *testing.T, c *Catalog) (problems []audit.Problem) {
	t.Helper()
	err := c.View(t.Context(), func(tx *Tx) error {
		rows, err := tx.AuditRows(0, 1000)
		if err != nil {
			return err
		}
		check := audit.NewChecker(audit.Head{}, nil)
		for _, r := range rows {
			check.Add(r)
		}
		head, err := tx.AuditHead()
		check.End(head)
		problems = check.Problems()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

// TestAuditLogHasWhoAndWhat, the newest first, and is whole.
func TestAuditLogHasWhoAndWhat(t *testing.T) {
	c, _ := auditCatalog(t, 3)
	update(t, c, func(tx *Tx) error {
		return tx.InsertAudit(block.Audit{Call: "failover done", Outcome: "\xff" + strings.Repeat("x", 9)})
	})
	err := c.View(t.Context(), func(tx *Tx) error {
		all, err := tx.Audits(AuditQuery{Limit: 10})
		if err != nil || len(all) != 4 || all[0].User != "kvol" || all[0].Remote != "" || all[1].User != "erin" ||
			all[1].Remote != "10.0.0.9" || !slices.Equal(all[1].Roles, []string{"admin"}) || all[1].Project != "ops" ||
			all[1].Operation != "op2" || all[1].ID != 3 || all[1].Hash == "" {
			t.Errorf("%+v, %v", all, err)
		}
		for q, n := range map[AuditQuery]int{{Limit: 1}: 1, {Limit: 9, Before: 3}: 2, {Limit: 9, Operation: "op1"}: 1,
			{Limit: 9, Call: "failover"}: 1, {Limit: 9, Call: "x"}: 0} {
			if some, err := tx.Audits(q); len(some) != n || err != nil {
				t.Errorf("%+v: %d, %v", q, len(some), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := whole(t, c); len(p) != 0 {
		t.Error(p)
	}
}

// TestAuditLogRefusesChanges by whoever has the catalog open, kvol included.
func TestAuditLogRefusesChanges(t *testing.T) {
	c, _ := auditCatalog(t, 5)
	for _, statement := range []string{
		`UPDATE audit_log SET body = replace(body, 'erin', 'mary') WHERE seq = 3`,
		`UPDATE audit_log SET at = 0`,
		`DELETE FROM audit_log WHERE seq = 3`,
		`DELETE FROM audit_log`,
		`INSERT INTO audit_log (seq, at, call, operation_id, body, hash) VALUES (9, 0, '', '', '{}', '')`,
		`INSERT OR REPLACE INTO audit_log (seq, at, call, operation_id, body, hash) VALUES (3, 0, '', '', '{}', '')`,
		`UPDATE audit_head SET seq = 3`,
		`UPDATE audit_head SET seq = seq + 1`,
		`DELETE FROM audit_head`,
	} {
		if onPostgres() && strings.Contains(statement, "OR REPLACE") {
			continue // which PostgreSQL has not
		}
		err := c.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.exec(statement)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "audit log") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if p := whole(t, c); len(p) != 0 {
		t.Error(p)
	}
}

// TestAuditLogChangedByHandIsFound: who takes the triggers away and changes the
// file is found out, and the record is named.
func TestAuditLogChangedByHandIsFound(t *testing.T) {
	sqliteOnly(t)
	for name, c := range map[string]struct {
		statement string
		record    int64
	}{
		"edited":    {`UPDATE audit_log SET body = replace(body, 'erin', 'mary') WHERE seq = 7`, 7},
		"relabeled": {`UPDATE audit_log SET call = 'list' WHERE seq = 7`, 7},
		"deleted":   {`DELETE FROM audit_log WHERE seq = 7`, 7},
		"truncated": {`DELETE FROM audit_log WHERE seq > 15`, 16},
		"cut off":   {`DELETE FROM audit_log WHERE seq < 4`, 1},
		"emptied":   {`DELETE FROM audit_log`, 1},
		"swapped": {`UPDATE audit_log SET seq = -seq WHERE seq IN (1, 3); UPDATE audit_log SET seq = 3 WHERE seq = -1;
			UPDATE audit_log SET seq = 1 WHERE seq = -3`, 1},
		"inserted": {`INSERT INTO audit_log SELECT 21, at, call, operation_id, body, hash FROM audit_log WHERE seq = 7`, 21},
		"replaced": {`INSERT OR REPLACE INTO audit_log SELECT 9, at, call, operation_id, body, hash FROM audit_log
			WHERE seq = 7`, 9},
		"set back": {`DELETE FROM audit_log WHERE seq > 15; UPDATE audit_head SET seq = 15`, 15},
	} {
		t.Run(name, func(t *testing.T) {
			cat, path := auditCatalog(t, 20)
			byHand(t, path, c.statement)
			p := whole(t, cat)
			if len(p) == 0 || p[0].Record != c.record {
				t.Errorf("%+v, want record %d", p, c.record)
			}
		})
	}
}

// byHand changes a file behind the zone's back, without the triggers.
func byHand(t *testing.T, path, statement string) {
	t.Helper()
	w, r, err := (&sqlite{path: path}).connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = w.update(context.Background(), func(c *conn) error {
		for _, name := range []string{"audit_log_grows", "audit_log_stays", "audit_log_is_kept", "audit_head_follows",
			"audit_head_stays"} {
			if _, err := c.exec(context.Background(), "DROP TRIGGER "+name); err != nil {
				return err
			}
		}
		_, err := c.exec(context.Background(), statement)
		return err
	})
	if err := errors.Join(err, r.close(), w.close()); err != nil {
		t.Fatal(err)
	}
}

// TestSealedRecordsMayGo, and no others.
func TestSealedRecordsMayGo(t *testing.T) {
	c, _ := auditCatalog(t, 20)
	err := c.Update(t.Context(), func(tx *Tx) error {
		rows, err := tx.AuditRows(0, 10)
		if err != nil {
			return err
		}
		return tx.SealAudit(AuditSeal{First: 1, Last: rows[9].Head, File: "f", Sum: "s"}, block.Audit{Call: "audit seal"})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = c.View(t.Context(), func(tx *Tx) error {
		rows, err := tx.AuditRows(0, 100)
		seals, err2 := tx.AuditSeals()
		if len(rows) != 11 || len(seals) != 1 || seals[0].Last.Seq != 10 || rows[0].Seq != 11 {
			t.Errorf("%d rows, %+v", len(rows), seals)
		}
		check := audit.NewChecker(seals[0].Last, nil)
		for _, r := range rows {
			check.Add(r)
		}
		if p := check.Problems(); len(p) != 0 {
			t.Error(p)
		}
		before, err3 := tx.AuditBefore(tx.Now.Add(time.Hour), 100)
		most, err4 := tx.AuditBefore(time.Time{}.Add(time.Hour), 5)
		if before != 21 || most != 16 {
			t.Errorf("%d and %d", before, most)
		}
		return errors.Join(err, err2, err3, err4)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{`DELETE FROM audit_log WHERE seq = 11`, `DELETE FROM audit_seals`,
		`UPDATE audit_seals SET last = 20`} {
		err := c.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.exec(statement)
			return err
		})
		if err == nil {
			t.Errorf("%s is done", statement)
		}
	}
}

// TestCallsOfBeforeAreInTheChain after the catalog is opened.
func TestCallsOfBeforeAreInTheChain(t *testing.T) {
	c, path := auditCatalog(t, 1)
	update(t, c, func(tx *Tx) error {
		for i := range 3 {
			if _, err := tx.exec(`INSERT INTO audit (at, caller, remote, call, params, code, rowkey)
				VALUES ($1, 'gabianet', '::1', 'list', '', 200, $2)`, 1000*(i+1), i); err != nil {
				return err
			}
		}
		return nil
	})
	again, err := Open(t.Context(), options(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	err = again.View(t.Context(), func(tx *Tx) error {
		all, err := tx.Audits(AuditQuery{Limit: 10})
		if len(all) != 4 || all[0].User != "gabianet" || all[0].Rowkey != 2 || all[0].At.UnixMicro() != 3000 {
			t.Errorf("%+v", all)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := whole(t, again); len(p) != 0 {
		t.Error(p)
	}
}

// TestToldHeadsAreThinned: the newest are kept, and one of each older day.
func TestToldHeadsAreThinned(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 300 {
		now = now.Add(time.Hour)
		update(t, c, func(tx *Tx) error {
			return tx.PutAuditTold("a", audit.Head{Seq: int64(i + 1), Hash: audit.Hash{byte(i)}})
		})
	}
	update(t, c, func(tx *Tx) error {
		all, err := tx.AuditTold("a", 1000)
		if len(all) < toldInFull+9 || len(all) > toldInFull+11 || all[0].Seq != 300 ||
			all[toldInFull-1].Seq != 300-toldInFull+1 {
			t.Errorf("%d heads, from %+v", len(all), all[0])
		}
		return err
	})
}
