package replication

import (
	"flag"
	"fmt"
	"testing"
)

var (
	seeds = flag.Int("seeds", 50, "how many seeds TestSimulation plays")
	first = flag.Uint64("seed", 1, "the first of them")
)

func TestSimulation(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 30)
	}
	for i := range n {
		seed := *first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			if err := simulate(t, seed, broke{}, seed%3 == 0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSimulationCatches shows that the simulation notices when a rule is not
// kept.
func TestSimulationCatches(t *testing.T) {
	for name, off := range map[string]broke{
		"root check":  {rootCheck: true},
		"epoch check": {epochCheck: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 1500; seed++ {
				if err := simulate(t, seed, off, off.rootCheck); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("nobody noticed in 1500 seeds")
		})
	}
}
