package replication

import (
	"context"
	"errors"
	"sync"
)

// tidyUp closes what a step that is committed left open, and lets older points go. Where
// the store is far away that goes on after the answer; endStep waits for it.
func (i *inbound) tidyUp(ctx context.Context) {
	replica, keep := i.replica.ID, i.protection.Retention
	if i.crew == nil {
		i.receiver.thin(ctx, replica, keep)
		return
	}
	device, base := i.device, i.crew.base
	i.closing = &sync.WaitGroup{}
	i.closing.Go(func() {
		if err := errors.Join(base.close(), device.Close()); err != nil {
			i.receiver.cfg.Log.Warn("a replica could not be closed", "replica", replica, "err", err)
		}
		i.receiver.thin(ctx, replica, keep) // the base, which was open, may be among them
	})
	i.step, i.device, i.crew = nil, nil, nil
}

// Close implements Target.
func (i *inbound) Close() error {
	err := i.endStep()
	if i.release != nil {
		i.release()
		i.release = nil
	}
	return err
}

// leave gives the volume up, as Close does, but for what is being closed after its last
// step: the claim goes on with that, and who comes next by this connection, with a volume
// of another store, does not wait for it. parted does.
func (i *inbound) leave() error {
	if i.release == nil || i.closing == nil || i.step != nil {
		return i.Close()
	}
	i.held.Store(false)
	closing, release := i.closing, i.release
	i.closing, i.release = nil, nil
	i.parted.Go(func() {
		closing.Wait()
		release()
	})
	return i.Close()
}

// settled waits for what the last step left open.
func (i *inbound) settled() {
	if i.closing != nil {
		i.closing.Wait()
		i.closing = nil
	}
}

// endStep closes what Begin opened. The step stays pending.
func (i *inbound) endStep() error {
	i.settled()
	var errs []error
	if i.crew != nil {
		i.crew.work.Wait()
		errs = append(errs, i.crew.base.close())
	}
	if i.device != nil {
		errs = append(errs, i.device.Close())
	}
	if i.base != nil {
		errs = append(errs, i.base.Close())
	}
	i.step, i.device, i.base, i.crew = nil, nil, nil, nil
	return errors.Join(errs...)
}
