package audit

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"kvol/internal/block"
)

// maxLine is how long a line of a file may be, in bytes.
const maxLine = 1 << 20

// Writer writes a file: "kvol-audit 1 ZONE SEQ HASH" with the head that it begins
// after, a line "HASH BODY" for each record, and "end SEQ HASH".
type Writer struct {
	to   *bufio.Writer
	head Head
}

// NewWriter begins a file.
func NewWriter(to io.Writer, zone block.Zone, after Head) (*Writer, error) {
	w := &Writer{bufio.NewWriter(to), after}
	_, err := fmt.Fprintf(w.to, "kvol-audit 1 %s %d %s\n", zone, after.Seq, after.Hash)
	return w, err
}

// Add writes the next record.
func (w *Writer) Add(r Row) error {
	w.head = r.Head
	_, err := fmt.Fprintf(w.to, "%s %s\n", r.Hash, r.Body)
	return err
}

// End writes the last line.
func (w *Writer) End() error {
	if _, err := fmt.Fprintf(w.to, "end %d %s\n", w.head.Seq, w.head.Hash); err != nil {
		return err
	}
	return w.to.Flush()
}

// File is what was found about a file.
type File struct {
	Zone     block.Zone `json:"zone"`
	After    Head       `json:"after"` // where it begins
	Last     Head       `json:"last"`
	Records  int64      `json:"records"`
	Problems []Problem  `json:"problems"`
}

// CheckFile reads a file and checks its chain. A file that is none of an audit
// log is Invalid; one that was changed has problems.
func CheckFile(from io.Reader) (File, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	var f File
	if !lines.Scan() {
		return f, block.Errorf(block.Invalid, "It is no file of an audit log: it is empty.")
	}
	var hash string
	if n, err := fmt.Sscanf(lines.Text(), "kvol-audit 1 %s %d %s", &f.Zone, &f.After.Seq, &hash); n != 3 || err != nil ||
		f.After.Hash.UnmarshalText([]byte(hash)) != nil || f.After.Seq < 0 {
		return f, block.Errorf(block.Invalid, "It is no file of an audit log.")
	}
	c := NewChecker(f.After, nil)
	ended := false
	for lines.Scan() {
		hash, text, _ := strings.Cut(lines.Text(), " ")
		if hash == "end" {
			ended = c.end(text)
			continue
		}
		if ended {
			c.say(c.head.Seq+1, "Something was added behind the end.")
		}
		f.Records++
		c.Add(line(c.head.Seq+1, hash, text))
	}
	if err := lines.Err(); err != nil {
		return f, block.Wrap(block.Invalid, err, "Line %d can't be read.", f.Records+2)
	}
	if !ended {
		c.say(c.head.Seq+1, "The end of the file is missing.")
	}
	f.Last, f.Problems = c.Head(), c.Problems()
	return f, nil
}

func (c *Checker) end(text string) bool {
	var h Head
	var hash string
	if n, err := fmt.Sscanf(text, "%d %s", &h.Seq, &hash); n != 2 || err != nil ||
		h.Hash.UnmarshalText([]byte(hash)) != nil {
		c.say(c.head.Seq+1, "The end of the file can't be read.")
		return true
	}
	c.End(h)
	return true
}

// line is a record of a file. Its number is what it says itself, so that a line
// that is missing is named.
func line(next int64, hash, text string) Row {
	r := Row{Head: Head{Seq: next}, Body: text}
	_ = r.Hash.UnmarshalText([]byte(hash)) // else it is no hash of any record
	if a, err := r.Record(); err == nil {
		if a.ID > next {
			r.Seq = a.ID
		}
		r.At, r.Call, r.Op = a.At, a.Call, a.Operation
	}
	return r
}
