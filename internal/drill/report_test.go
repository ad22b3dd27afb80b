package drill

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
)

// TestSamplesAreBounded: of a million samples a few thousand are kept, which
// give the same figures, and the worst one.
func TestSamplesAreBounded(t *testing.T) {
	var s Samples
	rnd := rand.New(rand.NewPCG(1, 2))
	at := time.Unix(1000, 0)
	var all []time.Duration
	for i := range 1_000_000 {
		age := time.Duration(rnd.Float64() * float64(time.Second))
		if i == 7 {
			age = time.Minute
		}
		all = append(all, age)
		s.Add(at.Add(time.Duration(i)*time.Millisecond), age)
	}
	slices.Sort(all)
	f := s.Figures()
	near := func(got float64, share int) bool {
		want := all[len(all)*share/100].Seconds()
		return got > want*0.95 && got < want*1.05
	}
	if len(s.ages) >= mostSamples || !near(f.Median, 50) || !near(f.P99, 99) || f.Worst != 60 || f.Seconds < 999 {
		t.Errorf("%d samples: %+v", len(s.ages), f)
	}
	if got := new(Samples).Figures(); got != (Figures{}) {
		t.Errorf("%+v", got)
	}
}

// TestPage: what tenants wrote is text on it, and everything is there.
func TestPage(t *testing.T) {
	at, rto := time.Date(2026, 11, 22, 3, 30, 0, 0, time.UTC), 0.0123
	r := Report{
		ID:        "11111111",
		Zone:      "kilo1",
		Verdict:   block.DrillFailed,
		Reasons:   []string{"volume <b>shop</b>: broken"},
		RTO:       &rto,
		EndedAt:   at,
		CreatedAt: at,
		Volumes: []Subject{{Name: "<script>alert(1)</script>", At: &at, Size: 3 << 30,
			Served: &rto, Probes: []Probe{{Kind: block.ProbeFsck, Status: block.StepFailed, Text: "is damaged",
				Output: "Pass 1 & 2"}}}},
		Pairs: []Pair{{SourceZone: "mitaka1", Protection: 2, Before: Figures{P99: 2}, During: Figures{P99: 2.1}}},
		Steps: []Step{{Name: "delete the clones", Status: block.StepSucceeded}},
	}
	var page bytes.Buffer
	if err := Page(&page, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;script&gt;", "&lt;b&gt;shop", "12 ms", "3 GiB", "Pass 1 &amp; 2", "1.05",
		"2026-11-22 03:30:00.000", "delete the clones", `class="verdict fail"`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(page.String(), "<script") || strings.Contains(page.String(), "http") {
		t.Error("it has scripts, or needs something else")
	}
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(text)
	if err != nil || back.ID != r.ID || len(back.Volumes) != 1 || *back.RTO != rto {
		t.Errorf("%+v, %v", back, err)
	}
}
