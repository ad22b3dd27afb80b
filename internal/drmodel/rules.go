package drmodel

// Rules are what the machine rests on. Each can be broken, to see what it is
// for: the zero value is the machine as it should be.
type Rules struct {
	NoEpochCheck    bool // a point of a lower epoch is committed
	OldCommit       bool // a point that is older than the newest is committed
	NoDrain         bool // the destination is asked to promote before it has all
	WriteWhileMoved bool // writes are taken while the volume is moved
	BackUnasked     bool // a silent destination is not asked to leave before the source writes again
	LeaveForgets    bool // who is asked to leave writes nothing down, so that an old order works
	NoFinishCheck   bool // the destination does not look at the epoch again when it is done
	NoUndo          bool // what only a stale volume has is forgotten
	Overwrite       bool // the way back writes over the stale volume
	NoAsking        bool // a zone that returns serves before it has asked
	NoTelling       bool // a forced recovery opens before the volume's zone knows, though it can be reached
	DrillStops      bool // a drill stops the replication
	DrillPromotes   bool // a drill takes the right to write
	NoRetry         bool // a failover that is told nothing waits for ever
	StaleWrites     bool // a stale volume can be opened for writing
	NoBids          bool // a zone that recovers asks no third one
	GrantForgets    bool // who grants a bid does not write it down
	NoStanding      bool // who recovers does not look whether its bid stands still
	NoMeeting       bool // of two zones that took a volume over none gives way
	FailedOpens     bool // what is left of a forced recovery that failed can be opened
	EqualEpochs     bool // zones count epochs alike
}

// Scope bounds an exploration.
type Scope struct {
	Zones, Volumes, Moves int
	Writes, Crashes, Cuts uint8
	Forced                uint8 // recoveries, or bids for them
	NoDrills              bool
	Narrow                bool // the first volume alone is moved, and the link of the last two zones alone is cut
	Whole                 bool // a point is sent, committed and heard of in one step
	Rules                 Rules
}

// Kind is who makes a step.
type Kind uint8

// The kinds.
const (
	System Kind = iota // kvol by itself
	User               // a host, a tenant or an operator
	Fault              // a zone dies, a link is cut, a job fails
	Repair             // a zone is started, a link mended
)

// Step is one step from a state: what happens, to which incarnation or zone,
// and the state after it.
type Step struct {
	Name string
	Kind Kind
	Who  int8 // incarnation, or zone where the step has none
	Zone int8
	Next State
}
