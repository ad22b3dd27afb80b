package dr

import (
	"net/http"
	"strconv"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

type auditBody struct {
	ID        int64           `json:"id"` // one more than that of the record before
	At        time.Time       `json:"at"`
	User      string          `json:"user"` // kvol: the zone itself
	Remote    string          `json:"remote"`
	Roles     []string        `json:"roles"`
	Project   block.ProjectID `json:"project_id"`
	Call      string          `json:"call"`
	Params    string          `json:"params"`
	Code      int             `json:"code"`    // HTTP status; 0 for what nobody asked for
	Outcome   string          `json:"outcome"` // what came of it, where code does not say it
	Rowkey    int64           `json:"rowkey,omitempty"`
	Operation string          `json:"operation_id"`
	Consent   block.UserID    `json:"consent_by"`
	Hash      string          `json:"hash"` // of the record and all before it
}

func auditView(a block.Audit) auditBody {
	return auditBody{
		a.ID,
		a.At.UTC(),
		a.User,
		a.Remote,
		append([]string{}, a.Roles...),
		a.Project,
		a.Call,
		a.Params,
		a.Code,
		a.Outcome,
		a.Rowkey,
		a.Operation,
		a.Consent,
		a.Hash,
	}
}

func (s *Server) audit(r *http.Request, c block.Caller) (any, error) {
	q := r.URL.Query()
	limit, before := int64(control.MaxAudits), int64(0)
	if err := wholes(q, map[string]*int64{"limit": &limit, "before": &before}); err != nil {
		return nil, err
	}
	calls, err := s.cfg.Service.Audits(r.Context(), c, catalog.AuditQuery{Before: before, Operation: q.Get("operation_id"),
		Call: q.Get("call"), Limit: int(min(limit, control.MaxAudits+1))})
	return map[string]any{"audit": each(calls, auditView)}, err
}

// recordsBody is a part of the log as it is kept: hash is SHA-256 of "kvol audit
// 1\n", the hash of the record before, and SHA-256 of body.
type recordsBody struct {
	Zone    block.Zone   `json:"zone"`
	After   audit.Head   `json:"after"`
	Records []recordBody `json:"records"`
}

type recordBody struct {
	Seq  int64      `json:"seq"`
	Hash audit.Hash `json:"hash"`
	Body string     `json:"body"`
}

func (s *Server) auditRecords(r *http.Request, c block.Caller) (any, error) {
	var after int64
	if err := wholes(r.URL.Query(), map[string]*int64{"after": &after}); err != nil {
		return nil, err
	}
	p, err := s.cfg.Service.AuditRecords(r.Context(), c, after)
	return map[string]any{"audit_records": recordsBody{p.Zone, p.After,
		each(p.Rows, func(r audit.Row) recordBody { return recordBody{r.Seq, r.Hash, r.Body} })}}, err
}

type auditReportBody struct {
	Zone     block.Zone          `json:"zone"`
	Whole    bool                `json:"whole"`    // nothing is wrong with it, as far as can be known
	Base     audit.Head          `json:"base"`     // the last record that is in files only
	Head     audit.Head          `json:"head"`     // the last record
	Problems []audit.Problem     `json:"problems"` // the first 100
	Seals    []catalog.AuditSeal `json:"seals"`    // the files
	Told     []toldBody          `json:"told"`     // zones that were told of it
	Foreign  []brokenBody        `json:"not_believed"`
}

type toldBody struct {
	Zone   block.Zone `json:"zone"`
	Heads  int        `json:"heads"` // that were compared
	Newest audit.Head `json:"newest"`
	Silent bool       `json:"silent"` // it does not answer
}

type brokenBody struct {
	Zone block.Zone `json:"zone"`
	At   time.Time  `json:"at"`
	Why  string     `json:"why"`
}

func brokenView(b catalog.AuditBroken) brokenBody { return brokenBody{b.Zone, b.At.UTC(), b.Why} }

func (s *Server) verifyAudit(r *http.Request, c block.Caller) (any, error) {
	v, err := s.cfg.Service.VerifyAudit(r.Context(), c)
	return map[string]any{"audit_report": auditReportBody{v.Zone, len(v.Problems) == 0, v.Base, v.Head,
		append([]audit.Problem{}, v.Problems...), append([]catalog.AuditSeal{}, v.Seals...),
		each(v.Told, func(t control.ToldTo) toldBody { return toldBody(t) }), each(v.Foreign, brokenView)}}, err
}

type headBody struct {
	Zone block.Zone `json:"zone"`
	Seq  int64      `json:"seq"`
	Hash audit.Hash `json:"hash"`
	At   time.Time  `json:"at"` // when it was told
}

type headsBody struct {
	Told   []headBody   `json:"told"` // the newest of each other zone
	Broken []brokenBody `json:"not_believed"`
}

func (s *Server) auditHeads(r *http.Request, c block.Caller) (any, error) {
	told, broken, err := s.cfg.Service.AuditHeads(r.Context(), c)
	return map[string]any{"audit_heads": headsBody{each(told, func(t catalog.AuditTold) headBody {
		return headBody{t.Zone, t.Seq, t.Hash, t.At.UTC()}
	}), each(broken, brokenView)}}, err
}

func (s *Server) acceptAudit(r *http.Request, c block.Caller) (any, error) {
	return nil, s.cfg.Service.AcceptAudit(r.Context(), c, block.Zone(r.PathValue("zone")))
}

// wholes reads whole numbers of a query; what is absent stays as it is.
func wholes(q map[string][]string, into map[string]*int64) error {
	for name, at := range into {
		if len(q[name]) == 0 || q[name][0] == "" {
			continue
		}
		n, err := strconv.ParseInt(q[name][0], 10, 64)
		if err != nil {
			return block.Errorf(block.Invalid, "%s is a number.", name)
		}
		*at = n
	}
	return nil
}
