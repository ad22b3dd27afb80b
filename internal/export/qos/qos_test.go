package qos_test

import (
	"maps"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/export/qos"
)

type specs = map[string]int64

func TestCheck(t *testing.T) {
	for name, bad := range map[string]specs{
		"unknown key":         {"total_iops": 5},
		"zero":                {"total_iops_sec": 0},
		"negative":            {"read_bytes_sec": -1},
		"total and part":      {"total_iops_sec": 5, "read_iops_sec": 5},
		"total and scaled":    {"total_bytes_sec_per_gb": 5, "write_bytes_sec": 5},
		"burst alone":         {"read_iops_sec_max": 5},
		"burst below":         {"read_iops_sec": 6, "read_iops_sec_max": 5},
		"least alone":         {"read_iops_sec_per_gb_min": 5},
		"rate and its scaled": {"read_iops_sec": 6, "read_iops_sec_per_gb": 5},
	} {
		if err := qos.Check(bad); !block.Is(err, block.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := specs{"read_iops_sec": 5, "read_iops_sec_max": 50, "write_iops_sec_per_gb": 2, "write_iops_sec_per_gb_min": 9,
		"total_bytes_sec": 1 << 20, "size_iops_sec": 4096}
	if err := qos.Check(good); err != nil {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		in   specs
		size int64
		out  specs
	}{
		{nil, 5, nil},
		{specs{"read_iops_sec": 5, "read_iops_sec_max": 7}, 9, specs{"read_iops_sec": 5, "read_iops_sec_max": 7}},
		{specs{"read_iops_sec_per_gb": 5}, 9, specs{"read_iops_sec": 45}},
		{specs{"read_iops_sec_per_gb": 5, "read_iops_sec_per_gb_min": 100}, 9, specs{"read_iops_sec": 100}},
		{specs{"read_iops_sec_per_gb": 5, "read_iops_sec_max": 30}, 9, specs{"read_iops_sec": 30}},
	} {
		if got := qos.Resolve(c.in, c.size); !maps.Equal(got, c.out) {
			t.Errorf("%v of %d GiB is %v, want %v", c.in, c.size, got, c.out)
		}
	}
}

// clock is one that tests move.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// drive asks for requests back to back, each waiting its time, and returns how
// many ended within span.
func drive(l *qos.Limiter, c *clock, span time.Duration, write bool, bytes int64) (n int) {
	for end := c.Add(span); ; n++ {
		c.Time = c.Add(l.Take(write, bytes))
		if c.After(end) || n > 1e6 {
			return n
		}
		c.Time = c.Add(time.Microsecond)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		name     string
		specs    specs
		write    bool
		bytes    int64
		low, top int // requests in ten seconds
	}{
		{"requests", specs{"total_iops_sec": 100}, false, 1 << 20, 1000, 1012},
		{"bytes", specs{"write_bytes_sec": 1 << 20}, true, 64 << 10, 160, 163},
		{"a request above the rate", specs{"total_bytes_sec": 1 << 20}, true, 4 << 20, 2, 3},
		{"burst", specs{"read_iops_sec": 100, "read_iops_sec_max": 500}, false, 1, 1495, 1505},
		{"requests by size", specs{"total_iops_sec": 100, "size_iops_sec": 4096}, false, 16 << 10, 250, 254},
		{"the lower of two", specs{"total_iops_sec": 100, "total_bytes_sec": 40960}, false, 4096, 100, 102},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &clock{time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
			l := qos.NewLimiter(clock.now)
			l.Set(qos.LimitsOf(c.specs))
			if n := drive(l, clock, 10*time.Second, c.write, c.bytes); n < c.low || n > c.top {
				t.Errorf("%d requests in ten seconds, want %d to %d", n, c.low, c.top)
			}
		})
	}
}

func TestOtherKindsAreNotLimited(t *testing.T) {
	clock := &clock{time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	l := qos.NewLimiter(clock.now)
	l.Set(qos.LimitsOf(specs{"write_iops_sec": 1, "write_bytes_sec": 1}))
	for range 1000 {
		if l.Take(false, 1<<20) != 0 {
			t.Fatal("a read waits for a limit of writes")
		}
	}
	for range 10 {
		l.Take(true, 0)
	}
	if wait := l.Take(true, 0); wait != 10*time.Second {
		t.Errorf("the eleventh write waits %v", wait)
	}
	l.Set(qos.Limits{})
	if wait := l.Take(true, 1<<30); wait != 0 {
		t.Errorf("without limits a write waits %v", wait)
	}
}

// TestGiveBack: what is given back is as if it had never been taken, and never
// lets through more than that.
func TestGiveBack(t *testing.T) {
	clock := &clock{time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	l := qos.NewLimiter(clock.now)
	l.Set(qos.LimitsOf(specs{"read_bytes_sec": 100, "write_iops_sec": 1, "size_iops_sec": 50}))
	l.Take(false, 10) // what goes at once
	for range 3 {
		if wait := l.Take(false, 6000); wait != time.Minute {
			t.Errorf("a read waits %v", wait)
		}
		l.GiveBack(false, 6000)
		l.Take(true, 1)
		if wait := l.Take(true, 101); wait != 3*time.Second { // counts as three
			t.Errorf("a write waits %v", wait)
		}
		l.GiveBack(true, 101)
		l.GiveBack(true, 1)
	}
	clock.Time = clock.Add(time.Hour)
	l.Take(false, 500)
	clock.Time = clock.Add(4 * time.Second)
	l.GiveBack(false, 500) // 100 were still there
	l.Take(false, 10)
	if wait := l.Take(false, 100); wait != time.Second {
		t.Errorf("after more was given back than is there, a read waits %v", wait)
	}
}

// TestLowerLimits: a burst that the limits let through is not waited for at a
// lower rate; opening one more export, which sets the same limits, forgets nothing.
func TestLowerLimits(t *testing.T) {
	clock := &clock{time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	l := qos.NewLimiter(clock.now)
	limits := qos.LimitsOf(specs{"total_bytes_sec": 1000, "total_bytes_sec_max": 1_000_000})
	l.Set(limits)
	l.Take(true, 1_000_000)
	l.Set(limits)
	if wait := l.Take(true, 5000); wait != 5*time.Second {
		t.Errorf("after the burst one waits %v", wait)
	}
	l.Set(qos.LimitsOf(specs{"total_bytes_sec": 10}))
	if wait := l.Take(true, 10); wait != time.Second {
		t.Errorf("at the lower rate one waits %v", wait)
	}
}
