package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/lag"
)

// judge decides the state of each volume and of each pair.
func (a *assessment) judge(h *Health) {
	pairs := map[block.ProtectionKey]*PairState{}
	for i := range h.Pairs {
		pairs[h.Pairs[i].Key()] = &h.Pairs[i]
	}
	a.share(h, pairs)
	for i := range h.Volumes {
		v := &h.Volumes[i]
		pair := pairs[v.policy()]
		if v.State == "" {
			v.State, v.Reason = a.stateOf(v, pair)
		}
		v.Advice = adviceFor(v, pair)
		if pair == nil {
			continue
		}
		pair.Volumes[v.State]++
		if v.By != nil {
			pair.By[*v.By]++
		}
		if v.State.Worse(pair.State) && v.State != block.HealthStale {
			pair.State, pair.Advice = v.State, v.Advice
		}
		pair.Unreplicated += max(0, v.Unreplicated)
		if v.State != block.HealthStale && !v.UpTo.IsZero() && (pair.UpTo.IsZero() || v.UpTo.Before(pair.UpTo)) {
			pair.UpTo = v.UpTo
		}
	}
	for _, p := range pairs {
		a.judgePair(p)
	}
	slices.SortStableFunc(h.Volumes, func(x, y VolumeState) int { // the worst first
		switch {
		case x.State.Worse(y.State):
			return -1
		case y.State.Worse(x.State):
			return 1
		}
		return 0
	})
}

// share sums what all volumes of a pair need of its link.
func (a *assessment) share(h *Health, pairs map[block.ProtectionKey]*PairState) {
	const sessions = 4 // that share a link: replication.SenderConfig.Sessions
	together := map[block.Zone]float64{}
	for _, v := range h.Volumes {
		if p := pairs[v.policy()]; p != nil && v.Role == RoleSource && v.Throughput > 0 {
			p.Churn += v.Churn
			p.Needs += v.needs
			together[p.Destination] += v.needs
			p.Busy += v.Churn / v.Throughput / sessions
		}
	}
	for _, p := range pairs {
		if p.Role == RoleSource && p.Limit > 0 {
			p.Busy = a.s.busy(p, together[p.Destination], a.now)
		}
	}
	for i := range h.Volumes {
		v := &h.Volumes[i]
		p := pairs[v.policy()]
		if p == nil || p.Busy < 1 || !v.Forecast.Known || !v.Forecast.Holds {
			continue
		}
		v.Forecast.Holds = false
		if v.Forecast.BreachIn == lag.Never {
			v.Forecast.BreachIn = time.Duration(float64(max(0, v.Target-v.Lag.Now)) / (1 - 0.999/p.Busy))
		}
	}
}

// stateOf judges a volume of an enabled policy by what is known of it.
func (a *assessment) stateOf(v *VolumeState, pair *PairState) (block.HealthState, string) {
	if pair == nil || !pair.Enabled {
		return block.HealthPaused, "its protection is disabled"
	}
	still := max(2*v.Target, leastStill)
	moves := !v.Advanced.IsZero() && a.now.Sub(v.Advanced) < still
	works := v.Error == "" && (moves || v.Role == RoleSource && v.Sending)
	behind := v.Lag.Now.Round(time.Millisecond)
	switch {
	case v.Point.ID == "" && (works || v.Lag.Now <= still && v.Error == ""):
		return block.HealthCopying, "no point is committed yet"
	case v.Lag.Now > v.Target && (pair.Room.Low || strings.Contains(v.Error, "no space")):
		return block.HealthNoRoom, fmt.Sprintf("%s behind, and the backup backend has %d bytes left", behind, pair.Room.Free)
	case v.Point.ID == "" && v.whole != "":
		return block.HealthStalled, v.whole
	case v.Point.ID == "":
		return block.HealthStalled, "no point was ever committed"
	case v.Lag.Now > v.Target && works:
		return block.HealthLate, fmt.Sprintf("%s behind, where %s is allowed", behind, v.Target)
	case v.Lag.Now > v.Target:
		return block.HealthStalled, fmt.Sprintf("%s behind, where %s is allowed, and nothing comes", behind, v.Target)
	case !v.Forecast.Holds:
		return block.HealthCannotHold, cannotHold(v, pair)
	}
	return block.HealthOK, fmt.Sprintf("%s behind, where %s is allowed", behind, v.Target)
}

func cannotHold(v *VolumeState, pair *PairState) string {
	if pair.Limit > 0 && pair.Busy >= 1 {
		return fmt.Sprintf("the changes of all volumes take %.0f bytes a second of the link, which is limited to %d",
			pair.Needs, pair.Limit)
	}
	text := fmt.Sprintf("%.0f bytes change in a second, and the link carries %.0f", v.Churn, v.Throughput)
	if v.Forecast.Expected > 0 {
		return fmt.Sprintf("%s: it will be up to %s behind, where %s is allowed", text,
			v.Forecast.Expected.Round(time.Millisecond), v.Target)
	}
	if v.Forecast.BreachIn > 0 {
		return fmt.Sprintf("%s: in about %s it will be further behind than %s", text,
			v.Forecast.BreachIn.Round(time.Second), v.Target)
	}
	return text
}

// adviceFor says what to do about a volume.
func adviceFor(v *VolumeState, pair *PairState) string {
	other := v.Destination
	if v.Role == RoleTarget {
		other = v.SourceZone
	}
	switch v.State {
	case block.HealthStalled:
		if pair != nil && v.Role == RoleTarget {
			return fmt.Sprintf(
				"See whether zone %s and its link are alive; if it is lost, recover from the newest point.",
				other,
			)
		}
		return fmt.Sprintf("See whether zone %s is reached: `kvol dr links` has the error.",
			other)
	case block.HealthLate:
		return "It catches up by itself; if it stays late, the link or the target's store is too slow for it."
	case block.HealthNoRoom:
		return fmt.Sprintf("Make room for the backup backend in zone %s, or shorten the retention.", v.Destination)
	case block.HealthCannotHold:
		return "Give the link more bandwidth, protect fewer volumes, or raise rpo_target."
	case block.HealthUnprotected:
		if v.Protection == 0 {
			return "Add a protection for its type to this zone's configuration, or recover it into a type that has one."
		}
		return "The sender looks for it every few seconds; see the log of this zone for why it does not take it."
	case block.HealthStale:
		if v.recovered {
			return ""
		}
		return "It lives on in another zone. Compare what it has, and delete it when nothing of it is needed."
	}
	return ""
}

// judgePair adds what is known of the pair as a whole.
func (a *assessment) judgePair(p *PairState) {
	if !p.Enabled {
		p.State, p.Advice = block.HealthPaused, ""
		return
	}
	total := 0
	for _, n := range p.Volumes {
		total += n
	}
	if p.Room.Low && block.HealthNoRoom.Worse(p.State) {
		p.State = block.HealthNoRoom
		p.Advice = fmt.Sprintf("Make room for backend %s in zone %s: %d of %d bytes are free.", p.Backup.Name, p.Destination,
			p.Room.Free, p.Room.Total)
	}
	if p.tightens() && block.HealthCannotHold.Worse(p.State) {
		p.State, p.Advice = block.HealthCannotHold, fmt.Sprintf("From %s on no more than %d bytes a second may be sent, and "+
			"the changes take %.0f: raise that limit (`kvol dr link limit`), or rpo_target.",
			p.TightestAt.UTC().Format("2006-01-02 15:04 MST"), p.Tightest, p.Needs)
	}
	if p.Busy >= 1 && block.HealthCannotHold.Worse(p.State) {
		p.State = block.HealthCannotHold
		p.Advice = "Give the link more bandwidth, protect fewer volumes, or raise rpo_target."
	}
	silent := a.now.Sub(p.Heard) > max(pairPatience, p.RPO())
	if total == 0 && silent && block.HealthStalled.Worse(p.State) {
		other := p.Destination
		if p.Role == RoleTarget {
			other = p.SourceZone
		}
		p.State = block.HealthStalled
		p.Advice = fmt.Sprintf("Zone %s does not answer: see whether it and its link are alive.", other)
	}
}
