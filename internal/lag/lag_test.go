package lag

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// near reports whether a figure is as exact as the scale allows.
func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.25*float64(want)+float64(20*time.Millisecond)
}

// TestTimeWithoutPointsCounts: a replica that gets a point each second and then
// none for ten minutes is, over the hour, a sixth of the time behind by
// minutes. A meter of points alone would not notice.
func TestTimeWithoutPointsCounts(t *testing.T) {
	m := Meter{Target: 15 * time.Second}
	at := start
	m.Advance(at, at)
	for range 50 * 60 {
		at = at.Add(time.Second)
		m.Advance(at, at.Add(-100*time.Millisecond))
	}
	good := m.Report(at)
	if good.Hour.Worst > 2*time.Second || good.Hour.Breach != 0 || !near(good.Hour.Median, 600*time.Millisecond) {
		t.Errorf("before: %+v", good)
	}
	at = at.Add(10 * time.Minute)
	r := m.Report(at)
	if r.Now < 10*time.Minute || !near(r.Hour.Worst, 10*time.Minute) || !near(r.Hour.P99, 9*time.Minute+30*time.Second) {
		t.Errorf("silence is not seen: %+v", r)
	}
	if want := 10*time.Minute - 15*time.Second; !near(r.Hour.Breach, want) {
		t.Errorf("in breach for %s, want %s", r.Hour.Breach, want)
	}
	if r.Burn1h < 15 || r.Burn1h > 18 { // a sixth of the hour, where a hundredth is allowed
		t.Errorf("burn %f", r.Burn1h)
	}
}

// TestMeterAgainstTrace compares with every tenth of a second of random lives.
func TestMeterAgainstTrace(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := Meter{Target: 5 * time.Second}
		at, upTo := start, start
		m.Advance(at, upTo)
		var trace []time.Duration
		for at.Before(start.Add(50 * time.Minute)) {
			wait := time.Duration(rnd.ExpFloat64() * float64(3*time.Second)).Truncate(100 * time.Millisecond)
			for range wait / (100 * time.Millisecond) {
				at = at.Add(100 * time.Millisecond)
				trace = append(trace, at.Sub(upTo))
			}
			upTo = at.Add(-time.Duration(rnd.Int64N(int64(time.Second))))
			if rnd.IntN(3) == 0 {
				m.Report(at) // looking changes nothing
			}
			m.Advance(at, upTo)
		}
		slices.Sort(trace)
		breach := 0
		for _, l := range trace {
			if l > m.Target {
				breach++
			}
		}
		w := m.Report(at).Hour
		if !near(w.Median, trace[len(trace)/2]) || !near(w.P99, trace[len(trace)*99/100]) ||
			!near(w.Worst, trace[len(trace)-1]) {
			t.Errorf("seed %d: %+v, want %s, %s, %s", seed, w, trace[len(trace)/2], trace[len(trace)*99/100],
				trace[len(trace)-1])
		}
		if want := time.Duration(breach) * 100 * time.Millisecond; (w.Breach - want).Abs() > want/20+2*time.Second {
			t.Errorf("seed %d: in breach for %s, want %s", seed, w.Breach, want)
		}
	}
}

// TestMeterIsBounded lives for a year, and a gap of a century costs no more.
func TestMeterIsBounded(t *testing.T) {
	m := Meter{Target: time.Minute}
	at := start
	m.Advance(at, at)
	for range 365 {
		at = at.Add(24 * time.Hour)
		m.Advance(at, at)
	}
	m.Advance(at.Add(100*365*24*time.Hour), at)
	text, err := json.Marshal(&m)
	if err != nil || len(text) > 16<<10 || len(m.Fine) > fineSlots || len(m.Coarse) > coarseSlots ||
		len(m.Days) > daySlots {
		t.Errorf("%d bytes, %d %d %d slots, %v", len(text), len(m.Fine), len(m.Coarse), len(m.Days), err)
	}
}

// TestMeterSurvivesRestart: what was kept is there, and the time of the restart
// counts with how far the replica is known to have got.
func TestMeterSurvivesRestart(t *testing.T) {
	m := Meter{Target: 10 * time.Second}
	at := start
	m.Advance(at, at)
	for range 600 {
		at = at.Add(time.Second)
		m.Advance(at, at)
	}
	text, err := json.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		upTo  time.Time
		worst time.Duration
	}{
		{"nothing came meanwhile", at, 5 * time.Minute},
		{"points came until half a minute ago", at.Add(4*time.Minute + 30*time.Second), 30 * time.Second},
	} {
		var again Meter
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		back := at.Add(5 * time.Minute)
		again.Resume(back, c.upTo)
		r := again.Report(back)
		if !near(r.Hour.Worst, c.worst) || r.Hour.Known != 15*time.Minute {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestClockSetBackAccountsForNothing twice.
func TestClockSetBackAccountsForNothing(t *testing.T) {
	var m Meter
	m.Advance(start, start)
	m.Advance(start.Add(time.Minute), start.Add(time.Minute))
	m.Advance(start, start)
	m.Advance(start.Add(time.Minute), start)
	if r := m.Report(start.Add(time.Minute)); r.Day.Known != time.Minute {
		t.Errorf("%+v", r)
	}
}

func TestForecast(t *testing.T) {
	flow := func(perSecond int64, took time.Duration) (f Flow) {
		for i := range 60 {
			f.Add(start.Add(time.Duration(i)*time.Second), Step{Bytes: perSecond, Span: time.Second, Took: took})
		}
		return f
	}
	const target = 15 * time.Second
	idle := flow(0, time.Millisecond)
	if p := Predict(idle, time.Second, target, 0, 0, 0); !p.Known || !p.Holds || p.BreachIn != Never {
		t.Errorf("idle: %+v", p)
	}
	half := flow(1<<20, 500*time.Millisecond)
	if p := Predict(half, time.Second, target, time.Second, 10<<20, 0); !p.Holds || p.Expected != 1500*time.Millisecond ||
		!near(p.CatchUp, 10*time.Second) {
		t.Errorf("half: %+v", p)
	}
	over := flow(1<<20, 2*time.Second)
	if p := Predict(over, time.Second, target, 5*time.Second, 0, 0); p.Holds || p.BreachIn != 20*time.Second ||
		p.CatchUp != Never {
		t.Errorf("over: %+v", p) // half a second is lost each second
	}
	if p := Predict(half, time.Second, target, 0, 0, 1.25); p.Holds || p.BreachIn != 75*time.Second {
		t.Errorf("others take the link: %+v", p)
	}
	if p := Predict(half, time.Second, time.Second, 0, 0, 0); p.Holds || p.BreachIn != time.Second {
		t.Errorf("a target that the interval can't reach: %+v", p)
	}
	if p := Predict(Flow{}, time.Second, target, time.Minute, 0, 0); p.Known || !p.Holds || p.BreachIn != 0 {
		t.Errorf("unknown: %+v", p)
	}
	first := Flow{}
	first.Add(start, Step{Bytes: 1 << 40, Took: time.Hour})
	if first.Churn() != 0 || first.Busy() != 0 {
		t.Errorf("a first copy is churn: %+v", first)
	}
	if c := half.Churn(); math.Abs(c-1<<20) > 1 {
		t.Errorf("churn %f", c)
	}
}

func TestRoom(t *testing.T) {
	var r Room
	for i := range 200 {
		r.Mark(start.Add(time.Duration(i)*30*time.Second), 1<<40, 1<<40-int64(i)<<20)
		if i == 2 {
			if _, ok := r.Fills(); ok {
				t.Error("a minute is enough")
			}
		}
	}
	rate, ok := r.Fills()
	if !ok || math.Abs(rate-float64(1<<20)/30) > 1 || len(r.marks) > roomMarks {
		t.Errorf("%f, %v, %d marks", rate, ok, len(r.marks))
	}
	if FullIn(100, 10) != 10*time.Second || FullIn(100, 0) != Never || FullIn(100, -1) != Never ||
		FullIn(math.MaxInt64, 1e-9) < 0 {
		t.Error("full in")
	}
}

func TestClocksApart(t *testing.T) {
	var c Clock
	if c.Offset().Known || c.Offset().Apart() {
		t.Error("known from nothing")
	}
	answer := func(at time.Time, ahead, there, back time.Duration) {
		c.Answer(at, at.Add(there+back), at.Add(there).Add(ahead))
	}
	answer(start, 0, 3*time.Second, 100*time.Millisecond) // a slow way there is no clock apart
	if o := c.Offset(); o.Apart() || o.By == 0 {
		t.Errorf("%+v", o)
	}
	answer(start.Add(time.Second), 0, time.Millisecond, time.Millisecond)
	if o := c.Offset(); o.By != 0 || o.Within != time.Millisecond {
		t.Errorf("the more exact answer does not win: %+v", o)
	}
	answer(start.Add(2*time.Second), time.Minute, time.Second, 2*time.Second) // it was set
	if o := c.Offset(); !o.Apart() || (o.By-time.Minute).Abs() > time.Second {
		t.Errorf("%+v", o)
	}
}

// TestTogether: of ten replicas one stands still, and the pair is as far behind
// as that one, though nine tenths of the time were good.
func TestTogether(t *testing.T) {
	now := start.Add(30 * time.Minute)
	var all []*Meter
	for i := range 10 {
		m := &Meter{Target: 15 * time.Second}
		m.Advance(start, start)
		for at := start.Add(time.Second); i > 0 && !at.After(now); at = at.Add(time.Second) {
			m.Advance(at, at)
		}
		m.Report(now)
		all = append(all, m)
	}
	r := Together(all, now)
	if r.Now != 30*time.Minute || r.Hour.Worst < 30*time.Minute || r.Hour.Median > time.Second ||
		r.Hour.P99 < 20*time.Minute || !near(r.Hour.Known, 300*time.Minute) || !near(r.Hour.Breach, 1785*time.Second) ||
		r.Burn1h < 9 || r.Burn1h > 11 {
		t.Errorf("%+v", r)
	}
	if one := Together(all[1:2], now); one.Hour != all[1].Report(now).Hour || one.Used30d != all[1].Report(now).Used30d {
		t.Errorf("one alone: %+v", one)
	}
	if none := Together(nil, now); none != (Report{}) {
		t.Errorf("none: %+v", none)
	}
}

func TestCertain(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ by, within, want time.Duration }{{3 * s, s, 2 * s}, {-3 * s, s, -2 * s}, {s, 2 * s, 0},
		{-s, 2 * s, 0}} {
		if got := (Offset{By: c.by, Within: c.within}).Certain(); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
}
