package lag

import "time"

// Apart is from which difference on two zones' clocks count as apart.
const Apart = time.Second

// Clock measures how far another zone's clock is from this one's, from
// questions and answers: an answer was written between the question and its
// arrival. The zero Clock is ready.
type Clock struct {
	asked []Offset
}

// Offset is what one question and its answer say: the other clock is By ahead,
// give or take Within.
type Offset struct {
	At     time.Time     `json:"at"` // on this zone's clock
	By     time.Duration `json:"by"`
	Within time.Duration `json:"within"`
	Known  bool          `json:"known"`
}

const clockAnswers = 6

// Answer takes in that an answer, written at an instant of the other clock, came
// back between two instants of this one.
func (c *Clock) Answer(asked, came, written time.Time) {
	half := came.Sub(asked) / 2
	if half < 0 {
		return // this clock was set back meanwhile
	}
	if len(c.asked) == clockAnswers {
		c.asked = append(c.asked[:0], c.asked[1:]...)
	}
	c.asked = append(c.asked, Offset{At: came, By: written.Sub(asked.Add(half)), Within: half, Known: true})
}

// Offset is the most exact of the last answers. One that contradicts the newest
// counts no more: a clock was set.
func (c *Clock) Offset() Offset {
	if len(c.asked) == 0 {
		return Offset{}
	}
	newest := c.asked[len(c.asked)-1]
	best := newest
	for _, o := range c.asked {
		if (o.By-newest.By).Abs() <= o.Within+newest.Within && o.Within < best.Within {
			best = o
		}
	}
	best.At = newest.At
	return best
}

// Apart reports whether the clocks differ by more than the limit for certain.
func (o Offset) Apart() bool { return o.Known && o.By.Abs()-o.Within > Apart }

// Certain is the part of the difference that there is for certain, by which
// instants of the other clock are put right.
func (o Offset) Certain() time.Duration {
	if o.By < 0 {
		return min(0, o.By+o.Within)
	}
	return max(0, o.By-o.Within)
}
