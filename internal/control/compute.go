package control

import (
	"context"
	"encoding/json"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// jobServerTell tells the servers that use a volume what became of it.
const jobServerTell = "server.tell"

// What servers are told of (compute.Extended, compute.Reimaged).
const (
	eventExtended = "volume-extended"
	eventReimaged = "volume-reimaged"
)

type tellArgs struct {
	Event   string         `json:"event"`
	Servers []string       `json:"servers"`
	Volume  block.VolumeID `json:"volume"`
}

// tellServers states the intent to tell the servers that use a volume, or are
// about to, of an event. What becomes of that does not touch the volume.
func (s *Service) tellServers(tx *catalog.Tx, v block.Volume, event string) error {
	if s.cfg.VolumeEvent == nil {
		return nil
	}
	args := tellArgs{Event: event, Volume: v.ID}
	for _, a := range v.Attachments {
		if server := text(a.ServerID); a.ServerID != nil && server != "" && !slices.Contains(args.Servers, server) {
			args.Servers = append(args.Servers, server)
		}
	}
	if len(args.Servers) == 0 {
		return nil
	}
	return enqueue(tx, jobServerTell, string(v.ID)+"/servers", args) // it is no work on the volume
}

// runTell carries jobServerTell out. To tell it twice does no harm: the host
// looks at the size, or goes on with the rebuild.
func (s *Service) runTell(ctx context.Context, t *job.Task) error {
	var args tellArgs
	if err := t.Args(&args); err != nil || s.cfg.VolumeEvent == nil {
		return err
	}
	return s.cfg.VolumeEvent(ctx, args.Event, args.Servers, args.Volume)
}

// gaveUpTell tells the project that the compute service was not told
// (cinder/compute/nova.py, extend_volume and reimage_volume).
func gaveUpTell(tx *catalog.Tx, j block.Job, cause error) error {
	var args tellArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	v, err := tx.Volume(args.Volume)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	what, why := actionExtend, detailComputeExtend
	if args.Event == eventReimaged {
		what, why = actionReimage, detailComputeReimage
	}
	return tellOfVolume(tx, v, j, what, why, cause)
}
