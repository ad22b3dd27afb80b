package zonetest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/audit"
	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// auditTriggers are what keeps programs from changing the log.
var auditTriggers = []string{"DROP TRIGGER audit_log_grows", "DROP TRIGGER audit_log_stays",
	"DROP TRIGGER audit_log_is_kept", "DROP TRIGGER audit_head_follows", "DROP TRIGGER audit_head_stays"}

// witnessed waits until both other zones were told of a zone's log up to a record,
// and returns what a look over it says.
func witnessed(t *testing.T, c *zonetest.Cloud, name string, record int64) (r client.AuditReport) {
	t.Helper()
	s := c.Session(name, zonetest.Admin)
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		var err error
		r, err = s.VerifyAudit(t.Context())
		far := 0
		for _, told := range r.Told {
			if told.Newest.Seq >= record {
				far++
			}
		}
		return far == 2, err
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	return r
}

// notBelieved waits until a zone does not believe another one's log.
func notBelieved(t *testing.T, c *zonetest.Cloud, name, other string) (why string) {
	t.Helper()
	s := c.Session(name, zonetest.Admin)
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		r, err := s.VerifyAudit(t.Context())
		for _, b := range r.NotBelieved {
			if b.Zone == other {
				why = b.Why
			}
		}
		return why != "", err
	})
	if err != nil {
		t.Fatal(err)
	}
	return why
}

// TestOperatorCannotRewriteHistory: the operator of a zone writes its audit log
// anew, hashes and all, or cuts its end off; what other zones were told tells,
// here and there.
func TestOperatorCannotRewriteHistory(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 64, 1)
	j.WriteHere(0, 64)
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")
	c.Kill(source)
	j.Recover("kilo1")
	c.Start(source)
	admin := c.Session("kilo1", zonetest.Admin)
	all, err := admin.Audits(t.Context(), client.AuditQuery{})
	if err != nil || len(all) == 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	at := slices.IndexFunc(all, func(a client.Audit) bool { return a.Call == "recovery begins" })
	if at < 0 || all[at].User != zonetest.KvolUser || all[at].Remote != "127.0.0.1" || all[at].Code != 202 {
		t.Fatalf("%+v", all)
	}
	victim := all[at].ID
	r := witnessed(t, c, "kilo1", all[0].ID)
	if !r.Whole || r.Head.Seq < all[0].ID {
		t.Errorf("%+v", r)
	}

	c.Stop("kilo1")
	rows := c.Rows("kilo1", "audit_log")
	c.ByHand("kilo1", append(slices.Clone(auditTriggers), rewritten(t, c, "kilo1", int(victim), len(rows))...)...)
	c.Start("kilo1")
	r, err = c.Session("kilo1", zonetest.Admin).VerifyAudit(t.Context())
	if err != nil || r.Whole || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Text, "was written anew") ||
		r.Problems[0].Record < victim {
		t.Errorf("%+v, %v", r, err)
	}
	for _, other := range []string{source, "kilo2"} {
		if why := notBelieved(t, c, other, "kilo1"); !strings.Contains(why, "was written anew") {
			t.Error(why)
		}
	}

	end := c.Rows(source, "audit_log")
	r = witnessed(t, c, source, int64(len(end)))
	c.Stop(source)
	last := r.Head.Seq
	c.ByHand(source, append(slices.Clone(auditTriggers), fmt.Sprintf("DELETE FROM audit_log WHERE seq > %d", last-1),
		fmt.Sprintf("UPDATE audit_head SET seq = %d, hash = (SELECT hash FROM audit_log WHERE seq = %d)", last-1, last-1))...)
	c.Start(source)
	if why := notBelieved(t, c, "kilo2", source); !strings.Contains(why, "missing") && !strings.Contains(why, "anew") {
		t.Error(why)
	}
	if err := c.Session("kilo2", zonetest.Admin).AcceptAudit(t.Context(), "kilo1"); err != nil {
		t.Error(err)
	}
	if err := c.Session("kilo2", zonetest.Alice).AcceptAudit(t.Context(), source); !client.IsStatus(err, 403) {
		t.Error(err)
	}
	j.Check()
}

// rewritten are statements by which a record says other than it did and all after
// it follow from it.
func rewritten(t *testing.T, c *zonetest.Cloud, name string, victim, n int) (statements []string) {
	t.Helper()
	var head audit.Head
	for seq := 1; seq <= n; seq++ {
		body := c.Value(name, fmt.Sprintf("SELECT body FROM audit_log WHERE seq = %d", seq))
		if seq == victim {
			body = strings.Replace(body, zonetest.KvolUser, "nobody", 1)
		}
		head = head.Next(audit.Digest(body))
		statements = append(statements, fmt.Sprintf("UPDATE audit_log SET body = '%s', hash = '%s' WHERE seq = %d",
			strings.ReplaceAll(body, "'", "''"), head.Hash, seq))
	}
	return append(statements, fmt.Sprintf("UPDATE audit_head SET hash = '%s'", head.Hash))
}
