package control

import (
	"context"
	"encoding/json"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
	"kvol/internal/rivals"
)

// The paths by which zones agree on who takes a volume over.
const (
	PathBids     = "/peer/v1/bids"
	PathWithdraw = "/peer/v1/bids/withdraw"
)

// AnswerBids answers another zone that is about to take volumes over. What is
// granted is written down before.
func (s *Service) AnswerBids(ctx context.Context, from block.Zone, q rivals.Ask) (out rivals.Answers, err error) {
	if len(q.Bids) > rivals.MaxBids {
		return out, block.Errorf(block.Invalid, "%d volumes are bid for, more than %d.", len(q.Bids), rivals.MaxBids)
	}
	if q.Index == s.cfg.ZoneIndex || q.Index < 0 || q.Index >= block.EpochClasses {
		return out, block.Errorf(block.Invalid, "Zone %s has the index %d, and zone %s %d; each needs one of its own.", from,
			q.Index, s.cfg.Zone, s.cfg.ZoneIndex)
	}
	answer := func(tx *catalog.Tx) error {
		out.Answers = make([]rivals.Answer, 0, len(q.Bids))
		open, err := openTakeovers(tx)
		if err != nil {
			return err
		}
		for _, b := range q.Bids {
			if !q.Look && b.Epoch%block.EpochClasses != uint64(q.Index) || b.SourceZone == from {
				out.Answers = append(out.Answers, rivals.Answer{Refused: fmt.Sprintf("Zone %s may not bid so.", from)})
				continue
			}
			v := foreign{b.SourceZone, b.Volume}
			if q.Look {
				b.Epoch = 0
			}
			a, err := rivals.Grant(tx, s.cfg.Zone, from, b, open[v], s.contest.at(v))
			if err != nil {
				return err
			}
			out.Answers = append(out.Answers, a)
		}
		return nil
	}
	if q.Look {
		return out, s.catalog.View(ctx, answer)
	}
	return out, s.catalog.Update(ctx, answer)
}

// WithdrawBids forgets bids that another zone gave up.
func (s *Service) WithdrawBids(ctx context.Context, from block.Zone, q rivals.Ask) error {
	if len(q.Bids) > rivals.MaxBids {
		return block.Errorf(block.Invalid, "%d bids are withdrawn, more than %d.", len(q.Bids), rivals.MaxBids)
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, b := range q.Bids {
			if err := tx.DropBid(bidOf(from, b)); err != nil {
				return err
			}
		}
		return nil
	})
}

// openTakeovers are the volumes that this zone is taking over: those whose right
// to write moves only when the new volume is whole.
func openTakeovers(tx *catalog.Tx) (map[foreign]*rivals.Busy, error) {
	open := map[foreign]*rivals.Busy{}
	jobs, err := tx.OpenJobs(recovery.JobKind)
	for _, j := range jobs {
		var o recovery.Order
		if err := json.Unmarshal(j.Args, &o); err != nil {
			return nil, err
		}
		if !o.Planned && o.Lease == nil || j.Step == recovery.ReleaseStep {
			continue
		}
		r, err := tx.DRJob(o.Kind, o.Rowkey)
		if err != nil {
			return nil, err
		}
		if r.End.IsZero() {
			open[foreign{r.Request.SourceZone, r.Request.SourceVolume}] = &rivals.Busy{Volume: o.Volume, Since: r.Start}
		}
	}
	return open, err
}
