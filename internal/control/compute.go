package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// jobServerTell tells a server, its subject, that its volume has grown.
const jobServerTell = "server.tell"

type tellArgs struct {
	Volume block.VolumeID `json:"volume"`
}

// tellServers states the intent to tell the servers that use a volume that it
// has grown. What becomes of it does not touch the volume.
func (s *Service) tellServers(tx *catalog.Tx, v block.Volume) error {
	if s.cfg.VolumeExtended == nil {
		return nil
	}
	told := map[string]bool{}
	for _, a := range v.Attachments {
		if a.ServerID == nil || *a.ServerID == "" || a.Status != attached || told[*a.ServerID] {
			continue
		}
		told[*a.ServerID] = true
		if err := enqueue(tx, jobServerTell, *a.ServerID, tellArgs{Volume: v.ID}); err != nil {
			return err
		}
	}
	return nil
}

// runTell carries jobServerTell out. To tell it twice does no harm: the host
// looks at the size.
func (s *Service) runTell(ctx context.Context, t *job.Task) error {
	var args tellArgs
	if err := t.Args(&args); err != nil || s.cfg.VolumeExtended == nil {
		return err
	}
	return s.cfg.VolumeExtended(ctx, t.Job.Subject, args.Volume)
}
