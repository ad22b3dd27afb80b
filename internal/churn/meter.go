package churn

import (
	"math"
	"time"

	"kvol/internal/block"
)

const (
	window    = 10 * time.Minute // that is looked at together
	entrySpan = 30 * time.Second // steps of less are taken together
	patience  = time.Hour        // after which a beginning that came to nothing is forgotten
	halfLife  = 7 * 24 * time.Hour

	leastBytes = 8 << 20 // that must look so
	leastShare = 20      // and one part in so many of the volume's data
	atOnce     = 4       // one part in so many needs no second step
	mostly     = 4       // one part in so many of what changed
	unusual    = 2       // times as much as the volume usually shows
)

// Meter follows a volume by its points. Its fields are for JSON; the zero value
// is ready.
type Meter struct {
	Data    int64     `json:"data"`   // bytes that the volume has, about
	Window  []Entry   `json:"window"` // from old to new
	Usual   float64   `json:"usual"`  // the most scrambled bytes in a window, of late
	UsualAt time.Time `json:"usual_at,omitzero"`
	Over    int       `json:"over"` // steps in a row that looked so
	// Began is the first of the points that look suspicious, Base the one before.
	Began  time.Time     `json:"began,omitzero"`
	Base   block.PointID `json:"base,omitempty"`
	BaseAt time.Time     `json:"base_at,omitzero"`
	Hot    time.Time     `json:"hot,omitzero"`   // the last of them
	Peak   int64         `json:"peak,omitempty"` // the most scrambled bytes of a window since
	Raised bool          `json:"raised,omitempty"`
}

// Entry is a part of the window.
type Entry struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Changed   int64     `json:"changed"`
	Scrambled int64     `json:"scrambled"`
}

// Step is a committed step.
type Step struct {
	block.PointStats
	Base   block.PointID
	BaseAt time.Time
	At     time.Time // of the point
}

// Add takes in a step and tells whether it is the one by which the volume
// becomes suspect; base is the point before the first that looks so.
func (m *Meter) Add(s Step) (raised bool) {
	if s.Base == "" || s.Span <= 0 {
		m.Data, m.Window, m.Over = s.Changed, nil, 0 // all of it is new
		if !m.Raised {
			m.forget()
		}
		return false
	}
	m.Data = max(0, m.Data+s.Changed-s.Rewritten-s.Freed)
	m.slide(s)
	changed, scrambled := m.sum()
	m.follow(s, scrambled)
	if !m.looksSo(changed, scrambled) {
		m.Over = 0
		return false
	}
	if m.Over++; m.Raised || m.Over < 2 && scrambled*atOnce < m.Data {
		return false
	}
	m.Raised = true
	return true
}

// Scrambled is how many bytes of the window look encrypted.
func (m *Meter) Scrambled() int64 {
	_, scrambled := m.sum()
	return scrambled
}

// Dismiss takes the present for usual.
func (m *Meter) Dismiss(now time.Time) {
	m.Usual, m.UsualAt = max(m.Usual, float64(m.Scrambled())), now
	m.forget()
	m.Over, m.Raised = 0, false
}

// slide adds a step to the window and lets go of what is too old, but for one
// entry at least.
func (m *Meter) slide(s Step) {
	n := len(m.Window)
	if n > 0 && s.At.Sub(m.Window[n-1].From) < entrySpan {
		e := &m.Window[n-1]
		e.To, e.Changed, e.Scrambled = s.At, e.Changed+s.Changed, e.Scrambled+s.Scrambled
	} else {
		m.Window = append(m.Window, Entry{From: s.BaseAt, To: s.At, Changed: s.Changed, Scrambled: s.Scrambled})
	}
	for len(m.Window) > 1 && s.At.Sub(m.Window[0].To) > window {
		m.Window = m.Window[1:]
	}
}

func (m *Meter) sum() (changed, scrambled int64) {
	for _, e := range m.Window {
		changed += e.Changed
		scrambled += e.Scrambled
	}
	return changed, scrambled
}

// follow notes where what looks suspicious began. While a volume is suspect, that
// stays. What came to nothing is usual from then on.
func (m *Meter) follow(s Step, scrambled int64) {
	hot := s.Scrambled > 0 && s.Scrambled*mostly >= s.Changed
	over := m.Base != "" && (s.At.Sub(m.Hot) > window || s.At.Sub(m.Began) > patience)
	if over && !m.Raised {
		m.learn(s.At, m.Peak)
		m.forget()
	}
	switch {
	case m.Raised:
	case hot && m.Base == "":
		m.Began, m.Base, m.BaseAt, m.Hot = s.At, s.Base, s.BaseAt, s.At
	case hot:
		m.Hot = s.At
	}
	if m.Base != "" {
		m.Peak = max(m.Peak, scrambled)
	}
}

func (m *Meter) forget() {
	m.Began, m.Base, m.BaseAt, m.Hot, m.Peak = time.Time{}, "", time.Time{}, time.Time{}, 0
}

// looksSo is the rule.
func (m *Meter) looksSo(changed, scrambled int64) bool {
	return m.Base != "" && scrambled >= max(leastBytes, m.Data/leastShare) && scrambled*mostly >= changed &&
		float64(scrambled) >= unusual*m.Usual
}

// learn takes a window for usual.
func (m *Meter) learn(at time.Time, scrambled int64) {
	if !m.UsualAt.IsZero() && at.After(m.UsualAt) {
		m.Usual *= math.Exp2(-float64(at.Sub(m.UsualAt)) / float64(halfLife))
	}
	m.Usual, m.UsualAt = max(m.Usual, float64(scrambled)), at
}
