package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/rivals"
)

// stageBids are what other zones say to the volumes of a stage.
type stageBids map[foreign]rivals.Outcome

// bidForStage asks other zones for all volumes of a stage that have not begun,
// each zone once. Those that must not be taken over fail. release must be called
// when the others have begun.
func (s *Service) bidForStage(ctx context.Context, id string, stage int) (
	won stageBids, release func(), err error,
) {
	var steps []block.OperationStep
	var rule rivals.Rule
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if steps, err = waiting(tx, id, stage); err != nil {
			return err
		}
		for _, step := range steps {
			p, err := paramsOf(step)
			if err != nil {
				return err
			}
			rule.Accept = p.AcceptRivals
		}
		return nil
	})
	if err != nil || len(steps) == 0 {
		return nil, func() {}, err
	}
	var volumes []foreign
	for _, step := range steps {
		volumes = append(volumes, foreign{step.SourceZone, step.Source})
	}
	won, release, err = s.bid(ctx, volumes, rule)
	if err != nil {
		return nil, nil, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		steps, err := waiting(tx, id, stage)
		for _, step := range steps {
			why, refused := block.UserMessage(won[foreign{step.SourceZone, step.Source}].Err)
			if !refused {
				continue
			}
			if err := endStep(tx, step, block.StepFailed, why); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		release()
	}
	return won, release, err
}

// waiting are the steps of a stage that recover volumes and have not begun.
func waiting(tx *catalog.Tx, id string, stage int) (steps []block.OperationStep, err error) {
	op, err := tx.Operation(id)
	if err != nil || op.Cancel != "" {
		return nil, err
	}
	all, err := tx.OperationSteps(id)
	for _, step := range all {
		if step.Stage == stage && step.Status == block.StepWaiting && step.Kind == block.StepRecover {
			steps = append(steps, step)
		}
	}
	return steps, err
}

// contested adds what other zones would say to the volumes of a forecast.
func (s *Service) contested(ctx context.Context, f *Forecast, req block.RecoveryRequest) error {
	var volumes []foreign
	for _, v := range f.Volumes {
		if v.replica.ID != "" && len(v.Problems) == 0 {
			volumes = append(volumes, foreign{v.SourceZone, v.Source})
		}
	}
	said, err := s.lookRivals(ctx, volumes, rivals.Rule{Accept: req.AcceptRivals})
	for i := range f.Volumes {
		v := &f.Volumes[i]
		v.blame("rival", said[foreign{v.SourceZone, v.Source}].Err)
	}
	return err
}
