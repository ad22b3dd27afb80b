package drmodel

import (
	"fmt"
	"slices"
	"strings"

	"kvol/internal/block"
)

// The bounds of a State. A Scope may be narrower.
const (
	MaxZones   = 3
	MaxVolumes = 3 // incarnations: the volume and what was made of it by promotion
	MaxMoves   = 2 // planned failovers of one incarnation
)

// None is no zone, no volume and no point.
const None = -1

// Role is what an incarnation of the volume is in its zone.
type Role uint8

// The roles.
const (
	Absent  Role = iota
	Filling      // a recovery makes it; nobody can open it yet
	Primary      // it takes writes, unless it is being moved away or its zone asks its peers first
	Stale        // it lives elsewhere: read-only for ever
	Failed       // its recovery failed or was given up; nobody ever wrote to it
	Deleted      // by its owner
)

var roleNames = []string{"absent", "filling", "primary", "stale", "failed", "deleted"}

func (r Role) String() string { return roleNames[r] }

// Volume is an incarnation: the first volume, or one that a promotion made.
// Sets of writes are bits: write n of the whole history is bit n.
type Volume struct {
	Role     Role
	Zone     int8
	Epoch    uint8
	From     int8  // the incarnation that it was made of
	Planned  bool  // by a planned failover
	Begin    uint8 // what it began with
	Acked    uint8 // every write that its hosts were told of, and Begin
	Content  uint8 // what it holds now
	To       int8  // the incarnation in another zone that its own zone knows of as the one that lives on
	Compared bool  // what only a stale one has was looked for
	Undo     uint8 // what is kept of it
	Missed   uint8 // zones that could not be told when it was made by force, one bit each
	Excused  uint8 // zones that were silent then, and for which an operator answered
}

// Copy is what one zone has of an incarnation in another one, and what travels
// there. A point is the number of writes since Begin that it has.
type Copy struct {
	Have  int8  // newest committed point
	Epoch uint8 // the highest that was seen or given; 0: no replica yet
	Fence int8  // the incarnation that was recovered from it here
	Known int8  // the newest point that the source has heard of as committed
	Sent  uint8 // points that are or were on their way, one bit each

	Lives   int8            // the incarnation of it that is heard to live on in a third zone
	Bid     uint8           // the epoch by which this zone wants to take it over; 0 for none
	Asks    bool            // and asks others at this moment
	Heard   uint8           // zones that granted it, as far as was heard, one bit each
	Granted [MaxZones]uint8 // bids of others that this zone granted
}

// Row is how the destination of a planned failover stands with it.
type Row uint8

// The rows.
const (
	RowNone    Row = iota // it has not heard of it
	RowRunning            // it fills a volume
	RowSuccess            // it was promoted
	RowFail               // it was not, and never will be
)

var rowNames = []string{"unknown", "running", "success", "fail"}

func (r Row) String() string { return rowNames[r] }

// Phase is where the source of a planned failover stands.
type Phase uint8

// The phases are those of the code, and one before the beginning.
const (
	NotBegun Phase = iota
	Draining
	Promoting
	Returning
	Done
	Back
)

var phases = []block.FailoverPhase{"not begun", block.FailoverDraining, block.FailoverPromoting,
	block.FailoverReturning, block.FailoverDone, block.FailoverBack}

// PhaseOf is the model's name of a phase.
func PhaseOf(p block.FailoverPhase) Phase { return Phase(slices.Index(phases, p)) }

func (p Phase) String() string { return string(phases[p]) }

func (p Phase) underWay() bool { return p == Draining || p == Promoting || p == Returning }

// Move is a planned failover of an incarnation.
type Move struct {
	Phase   Phase
	To      int8 // zone
	Point   int8 // that has all
	Ordered bool // the destination was, or may yet be, asked to promote
	Leaving bool // the same, to leave it
	Row     Row
	New     int8 // the incarnation that the destination fills or made
}

// State is everything at one moment. It can be compared.
type State struct {
	Up      [MaxZones]bool
	Cut     [MaxZones][MaxZones]bool // both ways alike
	Asked   [MaxZones]uint8          // peers that answered since the start, one bit each
	Volumes [MaxVolumes]Volume
	Copies  [MaxVolumes][MaxZones]Copy
	Moves   [MaxVolumes][MaxMoves]Move
	Drills  [MaxZones]bool // a drill's clone is open there
	Writes  uint8          // so far
	Crashes uint8          // so far, as the two below
	Cuts    uint8
	Forced  uint8
}

// classes is how many zones draw epochs, as block.EpochClasses is in the code.
const classes = 4

// NextEpoch is that of package block, with fewer zones.
func NextEpoch(known uint8, zone int8) uint8 { return (known/classes+1)*classes + uint8(zone) }

// EpochOf is the model's number of an epoch of the code.
func EpochOf(epoch uint64) uint8 {
	return uint8(epoch/block.EpochClasses*classes + epoch%block.EpochClasses)
}

// Begin is the volume in zone 0 with nothing written, all zones up and asked.
func Begin(zones int) State {
	var s State
	for z := range MaxZones {
		s.Up[z], s.Asked[z] = z < zones, 1<<zones-1
	}
	for i := range s.Volumes {
		s.Volumes[i] = Volume{Zone: None, From: None, To: None}
		for z := range s.Copies[i] {
			s.Copies[i][z] = Copy{Have: None, Fence: None, Known: None, Lives: None}
		}
		for n := range s.Moves[i] {
			s.Moves[i][n] = Move{To: None, Point: None, New: None}
		}
	}
	s.Volumes[0] = Volume{Role: Primary, Epoch: 1, From: None, To: None}
	return s
}

// linked reports whether two zones run and reach each other.
func (s *State) linked(a, b int8) bool { return s.Up[a] && s.Up[b] && !s.Cut[a][b] }

// points is how many writes an incarnation took since it began.
func (v *Volume) points() int8 { return ones(v.Content &^ v.Begin) }

// at is what the incarnation's point n holds.
func (v *Volume) at(n int8) uint8 {
	own, set := v.Content&^v.Begin, v.Begin
	for ; n > 0 && own > 0; n-- {
		set |= own & -own
		own &= own - 1
	}
	return set
}

func ones(b uint8) (n int8) {
	for ; b > 0; b &= b - 1 {
		n++
	}
	return n
}

// moving returns the failover of an incarnation that has not ended, or None.
func (s *State) moving(i int) int {
	for n, m := range s.Moves[i] {
		if m.Phase.underWay() {
			return n
		}
	}
	return None
}

// gone reports whether an incarnation is no hindrance to taking over anew what
// it was made of.
func (v *Volume) gone() bool { return v.Role == Deleted || v.Role == Failed }

// String is the state on a few lines, for people.
func (s State) String() string {
	var b strings.Builder
	for i, v := range s.Volumes {
		if v.Role == Absent {
			continue
		}
		fmt.Fprintf(&b, "volume %d in zone %d: %v, epoch %d, content %b, acknowledged %b, begun as %b of %d", i, v.Zone,
			v.Role, v.Epoch, v.Content, v.Acked, v.Begin, v.From)
		if v.To != None {
			fmt.Fprintf(&b, ", lives on as %d, undo %b (compared: %v)", v.To, v.Undo, v.Compared)
		}
		b.WriteByte('\n')
		for z, c := range s.Copies[i] {
			if c.Have != None || c.Sent != 0 || c.Epoch != 0 {
				fmt.Fprintf(&b, "  copy in zone %d: point %d, epoch %d, fence %d; known %d, sent %b\n", z, c.Have, c.Epoch,
					c.Fence, c.Known, c.Sent)
			}
		}
		for n, m := range s.Moves[i] {
			if m.Phase != NotBegun {
				fmt.Fprintf(&b, "  failover %d to zone %d: %s, point %d, there %v (%d)\n", n, m.To, m.Phase, m.Point, m.Row,
					m.New)
			}
		}
	}
	fmt.Fprintf(&b, "up %v, cut %v, asked %b, drills %v\n", s.Up, s.Cut, s.Asked, s.Drills)
	return b.String()
}
