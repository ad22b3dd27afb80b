package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Audit is a record of the audit log: a request, or what a zone decided.
type Audit struct {
	ID        int64     `json:"id"`
	At        time.Time `json:"at"`
	User      string    `json:"user"`
	Remote    string    `json:"remote"`
	Roles     []string  `json:"roles"`
	Project   string    `json:"project_id"`
	Call      string    `json:"call"`
	Params    string    `json:"params"`
	Code      int       `json:"code"`
	Outcome   string    `json:"outcome"`
	Rowkey    int64     `json:"rowkey"`
	Operation string    `json:"operation_id"`
	Consent   string    `json:"consent_by"`
	Hash      string    `json:"hash"`
}

// AuditQuery chooses records; its zero value the newest 1,000.
type AuditQuery struct {
	Limit     int
	Before    int64  // only records with a lower number
	Operation string // only those about an operation or failover
	Call      string // only those of calls that begin with it
}

// Audits lists records of the audit log, the newest first.
func (s *Session) Audits(ctx context.Context, q AuditQuery) ([]Audit, error) {
	v := url.Values{"operation_id": {q.Operation}, "call": {q.Call}}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Before > 0 {
		v.Set("before", strconv.FormatInt(q.Before, 10))
	}
	var out struct {
		Audit []Audit `json:"audit"`
	}
	err := s.dr(ctx, "/audit?"+v.Encode(), &out)
	return out.Audit, err
}

// AuditHead names a record of an audit log by its number and hash.
type AuditHead struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// AuditRecords is a part of the log as it is kept.
type AuditRecords struct {
	Zone    string    `json:"zone"`
	After   AuditHead `json:"after"`
	Records []struct {
		AuditHead
		Body string `json:"body"`
	} `json:"records"`
}

// AuditRecords returns the records after one, the oldest first; none at the end.
func (s *Session) AuditRecords(ctx context.Context, after int64) (AuditRecords, error) {
	var out struct {
		Records AuditRecords `json:"audit_records"`
	}
	err := s.dr(ctx, "/audit/records?after="+strconv.FormatInt(after, 10), &out)
	return out.Records, err
}

// AuditProblem is something about an audit log that can't have come of kvol.
type AuditProblem struct {
	Record int64  `json:"record"`
	Text   string `json:"text"`
}

// AuditNotBelieved is another zone whose log is not what it told before.
type AuditNotBelieved struct {
	Zone string    `json:"zone"`
	At   time.Time `json:"at"`
	Why  string    `json:"why"`
}

// AuditReport is what a look over a zone's audit log found.
type AuditReport struct {
	Zone     string         `json:"zone"`
	Whole    bool           `json:"whole"`
	Base     AuditHead      `json:"base"`
	Head     AuditHead      `json:"head"`
	Problems []AuditProblem `json:"problems"`
	Seals    []struct {
		First   int64     `json:"first"`
		Last    AuditHead `json:"last"`
		File    string    `json:"file"`
		SHA256  string    `json:"sha256"`
		Records int64     `json:"records"`
		At      time.Time `json:"at"`
	} `json:"seals"`
	Told []struct {
		Zone   string    `json:"zone"`
		Heads  int       `json:"heads"`
		Newest AuditHead `json:"newest"`
		Silent bool      `json:"silent"`
	} `json:"told"`
	NotBelieved []AuditNotBelieved `json:"not_believed"`
}

// VerifyAudit looks over the zone's audit log.
func (s *Session) VerifyAudit(ctx context.Context) (AuditReport, error) {
	var out struct {
		Report AuditReport `json:"audit_report"`
	}
	err := s.dr(ctx, "/audit/verify", &out)
	return out.Report, err
}

// AcceptAudit begins anew with the audit log of another zone.
func (s *Session) AcceptAudit(ctx context.Context, zone string) error {
	return s.drCall(ctx, http.MethodPost, "/audit/heads/"+url.PathEscape(zone)+"/accept", nil, nil)
}
