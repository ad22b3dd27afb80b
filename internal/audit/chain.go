package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"kvol/internal/block"
)

// Hash stands for a record and all before it.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits; all else is Invalid.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return block.Errorf(block.Invalid, "a hash of the audit log has %d hexadecimal digits", 2*len(h))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return block.Errorf(block.Invalid, "a hash of the audit log has hexadecimal digits only")
	}
	return nil
}

// Head names a record of the chain; the zero value is where it begins.
type Head struct {
	Seq  int64 `json:"seq"`
	Hash Hash  `json:"hash"`
}

// Row is a record as it is kept: Body is what is hashed, byte for byte.
type Row struct {
	Head
	Body string
	At   time.Time // a copy of what Body says, as the two below
	Call string
	Op   string // the operation that it is about
}

// Digest is the hash of a record alone: all that another zone needs to see that
// a chain goes on.
func Digest(body string) Hash { return sha256.Sum256([]byte(body)) }

// domain begins what is hashed, so that hashes of other things are none of the
// log's.
const domain = "kvol audit 1\n"

// Next is the head after a record with a digest.
func (h Head) Next(digest Hash) Head {
	text := make([]byte, 0, len(domain)+2*sha256.Size)
	text = append(text, domain...)
	text = append(text, h.Hash[:]...)
	text = append(text, digest[:]...)
	return Head{h.Seq + 1, sha256.Sum256(text)}
}

// Follow is the head after records of which only the digests are known.
func (h Head) Follow(digests []Hash) Head {
	for _, d := range digests {
		h = h.Next(d)
	}
	return h
}

// body is the form of a record.
type body struct {
	Seq       int64           `json:"seq"`
	At        time.Time       `json:"at"`
	User      string          `json:"user"`
	Remote    string          `json:"remote,omitempty"`
	Roles     []string        `json:"roles,omitempty"`
	Project   block.ProjectID `json:"project,omitempty"`
	Call      string          `json:"call"`
	Params    string          `json:"params,omitempty"`
	Code      int             `json:"code,omitempty"`
	Outcome   string          `json:"outcome,omitempty"`
	Rowkey    int64           `json:"rowkey,omitempty"`
	Operation string          `json:"operation,omitempty"`
	Consent   block.UserID    `json:"consent,omitempty"`
}

// Add is the row of the next record of a chain.
func (h Head) Add(a block.Audit) (Row, error) {
	at := a.At.UTC().Truncate(time.Microsecond)
	text, err := json.Marshal(body{h.Seq + 1, at, a.User, a.Remote, a.Roles, a.Project, a.Call, a.Params, a.Code,
		a.Outcome, a.Rowkey, a.Operation, a.Consent})
	return Row{h.Next(Digest(string(text))), string(text), at, a.Call, a.Operation}, err
}

// Record is what a row says. A row that is no record is Invalid.
func (r Row) Record() (block.Audit, error) {
	var b body
	if err := json.Unmarshal([]byte(r.Body), &b); err != nil {
		return block.Audit{}, block.Wrap(block.Invalid, err, "Record %d of the audit log can't be read.", r.Seq)
	}
	return block.Audit{ID: b.Seq, At: b.At.UTC(), User: b.User, Remote: b.Remote, Roles: b.Roles, Project: b.Project,
		Call: b.Call, Params: b.Params, Code: b.Code, Outcome: b.Outcome, Rowkey: b.Rowkey, Operation: b.Operation,
		Consent: b.Consent, Hash: r.Hash.String()}, nil
}
