package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// What a real Cinder did with the same requests: Debian's Cinder, measured on a
// machine like this. That is Cinder 21.3 (Zed) with Keystone 22 behind uwsgi with
// 4 workers, MariaDB and RabbitMQ on 2 cores, quiet, 1,000 volumes, loaded by
// hey, three repetitions. The requests per second and the memory are those of its
// best repetition, so that ratios are the least that one can claim; times are
// of its best one too.
const (
	cinderStarted = 870_000_000            // bytes that api, scheduler and volume hold at the start
	cinderLoaded  = 1_600_000_000          // and after load
	cinderPOST    = 310 * time.Millisecond // processor time of all its processes for one POST volume
	memoryAim     = 10                     // times less than it holds
	flatAim       = 1.5                    // times what a page of a thousand volumes takes, at most
)

// apiWork is a kind of request. By concurrency (1 and 16) come what the real
// Cinder answers in a second and how long its hundredth takes; 0 where that was
// not measured. aim is how many times its requests per second are wanted.
type apiWork struct {
	name         string
	method, path string // below the project, or from the root
	body         string
	status       int
	cinder       [2]float64
	cinderP99    [2]time.Duration
	aim          float64
	p99          time.Duration // the limit at a concurrency of 16; 0 for none
}

var apiWorks = []apiWork{
	{"GET volumes/detail?limit=1000", "GET", "volumes/detail?limit=1000", "", 200, [2]float64{0.84, 1.3},
		[2]time.Duration{2500 * time.Millisecond, 12 * time.Second}, 50, 0},
	{"GET volumes/detail?limit=50", "GET", "volumes/detail?limit=50", "", 200, [2]float64{9.7, 20},
		[2]time.Duration{130 * time.Millisecond, 1500 * time.Millisecond}, 100, 0},
	{"GET one volume", "GET", "volumes/{id}", "", 200, [2]float64{29, 53},
		[2]time.Duration{45 * time.Millisecond, 800 * time.Millisecond}, 100, 5 * time.Millisecond},
	{"POST volume", "POST", "volumes", `{"volume":{"size":1,"name":"made"}}`, 202, [2]float64{4.4, 5.8},
		[2]time.Duration{250 * time.Millisecond, 3600 * time.Millisecond}, 50, 0},
	{"POST token", "POST", "/identity/v3/auth/tokens", "", 201, [2]float64{2.6, 0},
		[2]time.Duration{432 * time.Millisecond, 0}, 1, 0},
}

var concurrencies = [2]int{1, 16}

// measured is one round of a work.
type measured struct {
	loaded
	cost time.Duration // the zone's processor time for one, with the jobs that it began
	done float64       // volumes a second that became available
}

// api measures requests of the block storage API over loopback: a zone of its
// own, whose log goes to a file, and a client in another process that shares the
// machine with it. The works take turns in each round.
func (b *bench) api(ctx context.Context) error {
	z, err := b.startZone(ctx, filepath.Join(b.dir, "api"))
	if err != nil {
		return err
	}
	defer z.stop()
	all := make([][2][]measured, len(apiWorks))
	if err := z.fill(ctx, 1000); err != nil {
		return err
	}
	atStart, err := resident(z.pid())
	if err != nil {
		return err
	}
	for range b.rounds {
		for i, w := range apiWorks {
			if !strings.HasPrefix(w.name, b.work) {
				continue
			}
			for at, concurrency := range concurrencies {
				m, err := b.apiRound(ctx, z, w, concurrency)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				all[i][at] = append(all[i][at], m)
			}
		}
	}
	for i, w := range apiWorks {
		for at, rounds := range all[i] {
			if len(rounds) > 0 {
				b.apiRows(w, at, rounds)
			}
		}
	}
	after, err := resident(z.pid())
	if err != nil {
		return err
	}
	b.apiMemory("memory with 1,000 volumes", atStart<<10, cinderStarted)
	b.apiMemory("memory after all this load", after<<10, cinderLoaded)
	return nil
}

func (b *bench) apiMemory(what string, ours, cinder int64) {
	b.note(what, fmt.Sprintf("%d MB", ours/1e6), fmt.Sprintf("Cinder %d MB", cinder/1e6),
		fmt.Sprintf("%.3f", float64(ours)/float64(cinder)), fmt.Sprintf("<= 1/%d", memoryAim), ours*memoryAim <= cinder)
}

// apiRound puts one kind of load on the zone. The processor time of requests
// that begin jobs counts until the jobs have ended.
func (b *bench) apiRound(ctx context.Context, z *apiZone, w apiWork, concurrency int) (m measured, err error) {
	request := z.request(w)
	if _, err := z.load(ctx, load{Request: request, Status: w.status, Concurrency: concurrency,
		Count: 2 * concurrency}); err != nil { // connections, caches
		return m, err
	}
	if err := z.settled(ctx); err != nil {
		return m, err
	}
	before, err := processorTime(z.pid())
	if err != nil {
		return m, err
	}
	began := time.Now()
	m.loaded, err = z.load(ctx, load{Request: request, Status: w.status, Concurrency: concurrency, Duration: b.each})
	if err := errors.Join(err, z.settled(ctx)); err != nil {
		return m, err
	}
	took := time.Since(began)
	after, err := processorTime(z.pid())
	if m.Count > 0 {
		m.cost = (after - before) / time.Duration(m.Count)
	}
	m.done = float64(m.Count) / took.Seconds()
	return m, err
}

// apiRows notes the medians of a work's rounds.
func (b *bench) apiRows(w apiWork, at int, rounds []measured) {
	over := func(of func(measured) time.Duration) time.Duration {
		values := make([]time.Duration, len(rounds))
		for i, m := range rounds {
			values[i] = of(m)
		}
		return median(values)
	}
	p50 := over(func(m measured) time.Duration { return m.P50 })
	p99 := over(func(m measured) time.Duration { return m.P99 })
	cost := over(func(m measured) time.Duration { return m.cost })
	client := over(func(m measured) time.Duration { return m.CPU / time.Duration(max(1, m.Count)) })
	var rates, done []float64
	for _, m := range rounds {
		rates, done = append(rates, float64(m.Count)/m.Elapsed.Seconds()), append(done, m.done)
	}
	rate, cinder := median(rates), w.cinder[at]
	ours := fmt.Sprintf("%.0f/s, p50 %v, p99 %v", rate, short(p50), short(p99))
	name := fmt.Sprintf("%s, concurrency %d", w.name, concurrencies[at])
	if cinder == 0 {
		b.tell(name, ours)
	} else {
		b.note(name, ours, fmt.Sprintf("Cinder %g/s, p99 %v", cinder, w.cinderP99[at]), fmt.Sprintf("%.0f", rate/cinder),
			fmt.Sprintf(">= %g", w.aim), rate >= w.aim*cinder)
	}
	if w.p99 > 0 && concurrencies[at] == 16 {
		b.limit("  its p99", []time.Duration{p99}, w.p99)
	}
	used := fmt.Sprintf("%v (the client %v)", short(cost), short(client))
	if w.status != 202 {
		b.tell("  processor time for one", used)
		return
	}
	b.note("  processor time for one, with its job", used, "Cinder "+cinderPOST.String(),
		fmt.Sprintf("%.4f", float64(cost)/float64(cinderPOST)), fmt.Sprintf("<= 1/%g", w.aim),
		float64(cost)*w.aim <= float64(cinderPOST))
	b.tell("  volumes made, until they are available", fmt.Sprintf("%.0f/s", median(done)))
}

// short rounds a time to three digits or so.
func short(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d > 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}
