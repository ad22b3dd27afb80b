package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// probeEvidence is what a probe found.
type probeEvidence struct {
	Text   string `json:"text"`
	Output string `json:"output,omitempty"`
}

// ProbeNews is what a command (on standard input) or a URL (as the body) is told
// of a drill.
type ProbeNews struct {
	Drill   string        `json:"drill"`
	Step    int           `json:"step"`
	Probe   string        `json:"probe"`
	Zone    block.Zone    `json:"zone"`
	Volumes []ProbeVolume `json:"volumes"`
}

// ProbeVolume is a clone in a ProbeNews. It may be written to; nobody else sees
// that.
type ProbeVolume struct {
	SourceZone block.Zone      `json:"source_zone"`
	Source     block.VolumeID  `json:"source_volume"`
	Name       string          `json:"name"`
	Project    block.ProjectID `json:"project_id"` // of the source
	Wave       int             `json:"wave"`
	Size       int64           `json:"size"`
	Point      block.PointID   `json:"point"`
	At         time.Time       `json:"at"`
	Root       block.RootHash  `json:"root"`
	NBD        string          `json:"nbd_uri"` // on this machine, while the probe runs
}

// probe looks at a clone, or at all of them.
func (r *drillRun) probe(ctx context.Context, step block.OperationStep) error {
	step, ended, err := r.begin(ctx, step.Seq)
	if err != nil || ended {
		return err
	}
	p, err := drillParamsOf(step)
	if err != nil {
		return err
	}
	if p.Probe == nil {
		return block.Errorf(block.Corrupt, "step %d of drill %s has no probe", step.Seq, r.id)
	}
	known := r.s.cfg.DR.Probes[p.Probe.Name]
	limit := cmp.Or(time.Duration(p.Probe.TimeoutSeconds)*time.Second, known.Timeout, maxDrillTime*time.Second)
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var e probeEvidence
	switch p.Probe.Kind {
	case block.ProbeVerify:
		e, err = r.verify(timed, p.Of)
	case block.ProbeFsck:
		e, err = r.fsck(timed, p.Of)
	default:
		e, err = r.ask(timed, step, *p.Probe)
	}
	if timed.Err() != nil && ctx.Err() == nil {
		err = block.Wrap(block.Unavailable, timed.Err(), "It took longer than %s.", limit)
	}
	return r.end(ctx, step, e, err)
}

// made returns the clone that a step made; NotFound where it did not.
func (r *drillRun) made(
	ctx context.Context,
	seq int,
) (c block.DrillClone, from block.Replica, p block.Point, err error) {
	err = r.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		step, err := tx.OperationStep(r.id, seq)
		if err == nil && step.Status != block.StepSucceeded {
			err = block.Errorf(block.NotFound, "There is no clone of it.")
		}
		if err == nil {
			p = *step.Point
		}
		return err
	})
	if err == nil {
		c, from, err = r.clone(ctx, seq)
	}
	return c, from, p, err
}

// verify compares the root hash of what a clone began as with the point's.
func (r *drillRun) verify(ctx context.Context, seq int) (e probeEvidence, err error) {
	c, _, p, err := r.made(ctx, seq)
	if err != nil {
		return e, err
	}
	store, err := r.s.backends.Of(c.Backend)
	if err != nil {
		return e, err
	}
	began, err := store.OpenSnapshot(ctx, driver.SnapshotRef{Volume: c.ID, Name: c.Point})
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, began.Close()) }()
	sum, err := replication.SumOf(ctx, began)
	if block.Is(err, block.Corrupt) {
		return e, block.Wrap(block.Corrupt, err, "It can't be read.")
	}
	if err != nil {
		return e, err
	}
	if root := sum.Root(p.Size); root != p.Root {
		return e, block.Errorf(block.Corrupt, "Its root hash is %s, and that of the point %s.", root, p.Root)
	}
	return probeEvidence{Text: "Its root hash is that of the point, " + p.Root.String() + "."}, nil
}

// probeEnvironment is all that a tool or a command gets of the zone's: nothing
// that the zone's own process was told.
func probeEnvironment(dir string) []string {
	return []string{
		"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/bin:/bin") + ":/usr/sbin:/sbin",
		"LANG=C.UTF-8",
		"HOME=" + dir,
		"TMPDIR=" + dir,
	}
}

// ask runs a command or calls a URL, with all clones served on a socket of their
// own.
func (r *drillRun) ask(ctx context.Context, step block.OperationStep, p block.DrillProbe) (e probeEvidence, err error) {
	known, ok := r.s.cfg.DR.Probes[p.Name]
	if !ok {
		return e, block.Errorf(block.NotFound, "The zone's configuration has no %s called %s any more.", p.Kind, p.Name)
	}
	dir, remove, err := r.s.scratch()
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	news := ProbeNews{Drill: r.id, Step: step.Seq, Probe: p.Name, Zone: r.s.cfg.Zone}
	served, err := r.serve(ctx, dir)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, served.stop()) }()
	if news.Volumes = served.volumes; len(news.Volumes) == 0 {
		return e, block.Errorf(block.NotFound, "There is no clone to look at.")
	}
	body, err := json.Marshal(news)
	if err != nil {
		return e, err
	}
	var said hookEvidence
	if p.Kind == block.ProbeHTTP {
		said, err = post(ctx, known.URL, fmt.Sprintf("%s/%d", r.id, step.Seq), body)
	} else {
		env := append(probeEnvironment(dir), "KVOL_DRILL="+r.id, "KVOL_STEP="+strconv.Itoa(step.Seq), "KVOL_PROBE="+p.Name,
			"KVOL_NBD_URI="+news.Volumes[0].NBD, "KVOL_SOURCE_VOLUME="+string(news.Volumes[0].Source))
		said, _, err = runCommand(ctx, known.Command, env, body)
	}
	e = probeEvidence{
		Text:   "It ended with " + said.Answer + ".",
		Output: strings.ReplaceAll(said.Output, filepath.Clean(dir), ""),
	}
	if err != nil {
		err = block.Wrap(block.Unavailable, err, "It failed: %s.", said.Answer)
	}
	return e, err
}
