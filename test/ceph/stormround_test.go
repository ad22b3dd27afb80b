package ceph_test

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

const (
	unwell  = time.Second      // how long something is ill before a process is
	killed  = time.Second      // how long a killed process is away
	stopped = 11 * time.Second // how long a stopped one stands still: calls to other zones give up after 10 s
	longest = 70 * time.Second // the same for who has the time: streams give up after a minute
)

// mishap is something that a zone stands on being killed or stopped, and its return.
type mishap struct {
	what       string
	begin, end func()
}

// round is a process that is killed or stopped while other things are ill. Of a
// cluster one daemon is at a time, of which the other is needed for its return.
type round struct {
	z       *stormZone
	still   time.Duration // stopped for so long; 0: killed
	mishaps []mishap
}

func (r round) String() string {
	what := "the process of " + r.z.Name + " is killed"
	if r.still > 0 {
		what = fmt.Sprintf("the process of %s stands still for %s", r.z.Name, r.still)
	}
	var meanwhile []string
	for _, m := range r.mishaps {
		meanwhile = append(meanwhile, m.what)
	}
	if len(meanwhile) > 0 {
		what += ", while " + strings.Join(meanwhile, " and ")
	}
	return what
}

// daemon makes a mishap of a cluster's daemon.
func (s *storm) daemon(z *stormZone, name string, kill bool) mishap {
	if kill {
		return mishap{"the " + name + " of " + z.Name + " is dead", func() { z.cluster.KillOne(s.t, name) },
			func() { z.cluster.Restart(s.t) }}
	}
	return mishap{"the " + name + " of " + z.Name + " stands still", func() { z.cluster.PauseOne(s.t, name) },
		func() { z.cluster.Resume(s.t) }}
}

// databaseIll makes a mishap of the left zone's database.
func (s *storm) databaseIll(kill bool) mishap {
	if kill {
		return mishap{"the database is dead", s.server.Kill, func() { s.server.Resume(s.t) }}
	}
	return mishap{"the database stands still", func() { s.server.Stop(s.t) }, func() { s.server.Continue(s.t) }}
}

// each is rounds in which each process is killed once and stopped once, of each
// cluster the monitor and the OSD are once one of both, and the database both, in an
// order and in company that the seed says.
func (s *storm) each() []round {
	rounds := []round{{z: s.left}, {z: s.right}, {z: s.left, still: stopped}, {z: s.right, still: stopped}}
	s.rnd.Shuffle(len(rounds), func(i, j int) { rounds[i], rounds[j] = rounds[j], rounds[i] })
	deal := func(first, second mishap) { // to two of the rounds
		in := s.rnd.Perm(len(rounds))
		rounds[in[0]].mishaps = append(rounds[in[0]].mishaps, first)
		rounds[in[1]].mishaps = append(rounds[in[1]].mishaps, second)
	}
	kill := s.rnd.IntN(2) == 0
	deal(s.daemon(s.left, "osd", kill), s.daemon(s.left, "mon", !kill))
	deal(s.daemon(s.right, "osd", !kill), s.daemon(s.right, "mon", kill))
	deal(s.databaseIll(true), s.databaseIll(false))
	return rounds
}

// any is a round of chance.
func (s *storm) any() round {
	zones := []*stormZone{s.left, s.right}
	r := round{z: zones[s.rnd.IntN(2)]}
	switch s.rnd.IntN(8) {
	case 0:
		r.still = longest
	case 1, 2, 3:
		r.still = time.Duration(1+s.rnd.IntN(15)) * time.Second
	}
	for _, z := range zones {
		if s.rnd.IntN(2) == 0 {
			r.mishaps = append(r.mishaps, s.daemon(z, []string{"osd", "mon"}[s.rnd.IntN(2)], s.rnd.IntN(2) == 0))
		}
	}
	if s.rnd.IntN(3) == 0 {
		r.mishaps = append(r.mishaps, s.databaseIll(s.rnd.IntN(2) == 0))
	}
	return r
}

// round lets one happen, and holds all against what the host was told.
func (s *storm) round(n int, r round) {
	s.t.Helper()
	began := time.Now()
	for _, m := range r.mishaps {
		m.begin()
	}
	wait(s.t.Context(), unwell)
	if r.still > 0 {
		r.z.Signal(s.t, syscall.SIGSTOP)
		wait(s.t.Context(), r.still)
	} else {
		r.z.Kill()
		wait(s.t.Context(), killed)
	}
	for _, m := range r.mishaps {
		m.end()
	}
	if r.still > 0 {
		r.z.Signal(s.t, syscall.SIGCONT)
	} else {
		r.z.Start(s.t)
	}
	over := time.Now()
	s.goOn()
	s.t.Logf("%d: %s: %s, and well again after %s", n, r, over.Sub(began).Round(time.Second/10),
		time.Since(over).Round(time.Second/10))
}
