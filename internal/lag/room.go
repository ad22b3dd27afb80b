package lag

import "time"

// Room watches how a store fills. The zero Room is ready.
type Room struct {
	marks []mark
	Total int64 // bytes
}

type mark struct {
	at   time.Time
	free int64
}

const (
	roomStep  = time.Minute
	roomMarks = 61
	roomLeast = 3 * time.Minute
)

// Mark notes how much is free.
func (r *Room) Mark(at time.Time, total, free int64) {
	r.Total = total
	if n := len(r.marks); n > 1 && at.Sub(r.marks[n-2].at) < roomStep {
		r.marks[n-1] = mark{at, free}
		return
	}
	if len(r.marks) == roomMarks {
		r.marks = append(r.marks[:0], r.marks[1:]...)
	}
	r.marks = append(r.marks, mark{at, free})
}

// Free is what was free last.
func (r *Room) Free() int64 {
	if len(r.marks) == 0 {
		return 0
	}
	return r.marks[len(r.marks)-1].free
}

// Fills is how many bytes a second the store loses, over the last hour or what
// is known of it; ok is false while too little is known. It is negative for a
// store that gets emptier.
func (r *Room) Fills() (rate float64, ok bool) {
	if len(r.marks) == 0 {
		return 0, false
	}
	first, last := r.marks[0], r.marks[len(r.marks)-1]
	took := last.at.Sub(first.at)
	if took < roomLeast {
		return 0, false
	}
	return float64(first.free-last.free) / took.Seconds(), true
}

// FullIn is how long the room lasts at a rate; Never if it is not used up.
func FullIn(free int64, rate float64) time.Duration {
	if rate <= 0 {
		return Never
	}
	const longest = 100 * 365 * 24 * time.Hour
	return time.Duration(min(float64(free)/rate*float64(time.Second), float64(longest)))
}
