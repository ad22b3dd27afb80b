package audit

import "fmt"

// maxProblems is how many problems are told of a chain.
const maxProblems = 100

// Problem is something about a chain that can't have come of kvol.
type Problem struct {
	Record int64  `json:"record"` // the first that it concerns
	Text   string `json:"text"`
}

// Checker goes over a chain from a head that is known. It belongs to one
// goroutine.
type Checker struct {
	head     Head
	began    int64
	lost     bool // the head's hash is of no use: what it was made from is missing
	problems []Problem
	named    map[int64]Hash // what others say of records
	seen     map[int64]Hash // and what those are here
}

// NewChecker begins after a record: the zero Head, or the last one that was
// sealed. named are hashes that are compared, by record.
func NewChecker(after Head, named []Head) *Checker {
	c := &Checker{head: after, began: after.Seq, named: map[int64]Hash{}, seen: map[int64]Hash{}}
	for _, h := range named {
		c.named[h.Seq] = h.Hash
	}
	if _, ok := c.named[after.Seq]; ok {
		c.seen[after.Seq] = after.Hash
	}
	return c
}

func (c *Checker) say(record int64, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{record, fmt.Sprintf(format, args...)})
	}
}

// Add looks at the next row, in order of their numbers.
func (c *Checker) Add(r Row) {
	if r.Seq != c.head.Seq+1 {
		c.say(c.head.Seq+1, "Records %d to %d are missing.", c.head.Seq+1, r.Seq-1)
		c.lost = true
	}
	switch want := (Head{r.Seq - 1, c.head.Hash}).Next(Digest(r.Body)); {
	case c.lost: // nothing to compare it with
	case want.Hash != r.Hash && c.head.Seq > c.began:
		c.say(r.Seq, "Record %d does not follow from record %d: one of them is not what was written.", r.Seq, r.Seq-1)
	case want.Hash != r.Hash:
		c.say(r.Seq, "Record %d is not what was written.", r.Seq)
	}
	c.lost = false
	c.inside(r)
	if _, ok := c.named[r.Seq]; ok {
		c.seen[r.Seq] = r.Hash
	}
	c.head = r.Head
}

// inside compares a row's columns with what was hashed.
func (c *Checker) inside(r Row) {
	a, err := r.Record()
	switch {
	case err != nil:
		c.say(r.Seq, "Record %d is not what was written: it can't be read.", r.Seq)
	case a.ID != r.Seq:
		c.say(r.Seq, "Record %d is not what was written: it was record %d.", r.Seq, a.ID)
	case !a.At.Equal(r.At) || a.Call != r.Call || a.Operation != r.Op:
		c.say(r.Seq, "Record %d is not what was written: what it is found by says other than what was hashed.", r.Seq)
	}
}

// Head is the last record that was looked at.
func (c *Checker) Head() Head { return c.head }

// End compares the last row with what is kept beside the rows.
func (c *Checker) End(kept Head) {
	switch {
	case kept.Seq > c.head.Seq:
		c.say(c.head.Seq+1, "Records %d to %d are missing at the end.", c.head.Seq+1, kept.Seq)
	case kept.Seq < c.head.Seq:
		c.say(kept.Seq+1, "Records %d to %d were added by something else than kvol.", kept.Seq+1, c.head.Seq)
	case kept.Hash != c.head.Hash:
		c.say(kept.Seq, "Record %d is not what was written: its hash is another one.", kept.Seq)
	}
}

// Compare looks at what somebody else was told of the chain. It is called after
// the last row.
func (c *Checker) Compare(who string, told Head) {
	here, ok := c.seen[told.Seq]
	switch {
	case told.Seq == 0 || ok && here == told.Hash || told.Seq < c.began:
	case told.Seq > c.head.Seq:
		c.say(c.head.Seq+1, "Records %d to %d are missing at the end: %s was told of them.", c.head.Seq+1, told.Seq, who)
	case ok:
		c.say(told.Seq, "Record %d, or one before it, was written anew: %s was told of another one.", told.Seq, who)
	default:
		c.say(told.Seq, "Record %d is missing: %s was told of it.", told.Seq, who)
	}
}

// Problems are what was found, at most 100.
func (c *Checker) Problems() []Problem { return append([]Problem{}, c.problems...) }
