package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/pace"
)

// limitMethods are for administrators alone; TestLimitsAreTheOperators looks at
// them.
var limitMethods = []string{"LinkLimits", "SetLinkLimit", "DeleteLinkLimit", "RelayStates"}

func TestLimitsAreTheOperators(t *testing.T) {
	z := newZone(t)
	for _, c := range []block.Caller{alice, {}} {
		if _, err := z.LinkLimits(z.ctx, c); !block.Is(err, block.Forbidden) {
			t.Errorf("LinkLimits: %v", err)
		}
		if _, err := z.RelayStates(z.ctx, c); !block.Is(err, block.Forbidden) {
			t.Errorf("RelayStates: %v", err)
		}
		if err := z.SetLinkLimit(z.ctx, c, "kilo2", 0, pace.Limit{}); !block.Is(err, block.Forbidden) {
			t.Errorf("SetLinkLimit: %v", err)
		}
		if err := z.DeleteLinkLimit(z.ctx, c, "kilo2", 0); !block.Is(err, block.Forbidden) {
			t.Errorf("DeleteLinkLimit: %v", err)
		}
	}
	if err := z.SetLinkLimit(z.ctx, operator, "paris", 0, pace.Limit{}); !block.Is(err, block.NotFound) {
		t.Errorf("to nowhere: %v", err)
	}
}
