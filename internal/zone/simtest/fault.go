package simtest

import (
	"maps"
	"slices"
	"sync"
)

// Fault is something that goes wrong on purpose.
type Fault string

// The faults. Each is counted when it happens, not when it is planned.
const (
	Drop      Fault = "bytes are lost on a link"
	Delay     Fault = "bytes are late"
	Duplicate Fault = "bytes come twice"
	Reorder   Fault = "bytes come in another order"
	Damage    Fault = "bytes change on a link"
	Truncate  Fault = "a connection ends in the middle of a write"
	Forge     Fault = "bytes change before their checksum is made"
	Refuse    Fault = "a connection is refused"
	Cut       Fault = "a link is cut"
	Torn      Fault = "a write is torn by a power cut"
	Lost      Fault = "a write is lost by a power cut"
	PowerCut  Fault = "a zone's power is cut"
	Full      Fault = "a disk is full"
	Jump      Fault = "a clock jumps"
	Kill      Fault = "a process is killed"
)

// Faults lists all of them.
var Faults = []Fault{
	Drop,
	Delay,
	Duplicate,
	Reorder,
	Damage,
	Truncate,
	Forge,
	Refuse,
	Cut,
	Torn,
	Lost,
	PowerCut,
	Full,
	Jump,
	Kill,
}

// Count is how often something happened.
type Count map[string]int

// Add adds another Count to c.
func (c Count) Add(o Count) {
	for name, n := range o {
		c[name] += n
	}
}

// Names are what was counted, in order.
func (c Count) Names() []string { return slices.Sorted(maps.Keys(c)) }

// tally counts while a story is played.
type tally struct {
	mu    sync.Mutex // guards count
	count Count
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count[name]++
}

// happened counts a fault and writes it into the trace.
func (c *cloud) happened(f Fault, where string) {
	c.tally.add(string(f))
	c.schedule.note("%s: %s", f, where)
}
