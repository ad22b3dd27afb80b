package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/export/nbd"
)

// clonesServed are the clones of a drill behind a socket that only this machine
// reaches, and only who may look into its directory.
type clonesServed struct {
	volumes []ProbeVolume
	end     context.CancelFunc
	ended   chan error
	remove  func() error
}

// maxSocketPath is how long the path of a socket may be (unix(7)).
const maxSocketPath = 100

func newClonesServed() *clonesServed {
	return &clonesServed{ended: make(chan error, 1), remove: func() error { return nil }}
}

// place finds a path for the socket: in a directory, or in one with a shorter
// name. It is given back by stop, and by listen after an error.
func (c *clonesServed) place(s *Service, dir string) (path string, err error) {
	if len(dir) > maxSocketPath-len("/nbd") {
		if dir, err = os.MkdirTemp("", s.shortScratch()); err != nil {
			return "", err
		}
		short := dir
		c.remove = func() error { return os.RemoveAll(short) }
	}
	return filepath.Join(dir, "nbd"), nil
}

// shortScratch begins the names of this zone's directories among those of
// others.
func (s *Service) shortScratch() string {
	sum := sha256.Sum256([]byte(s.cfg.TempDir))
	return "kvol-drill-" + hex.EncodeToString(sum[:6]) + "-"
}

// listen serves exports on a socket until stop.
func (c *clonesServed) listen(ctx context.Context, s *Service, path string, exports nbd.Exports) error {
	_ = os.Remove(path) // of the tool before
	l, err := net.Listen("unix", path)
	if err != nil {
		return errors.Join(err, c.remove())
	}
	serving, end := context.WithCancel(ctx)
	c.end = end
	server := nbd.New(nbd.Config{Exports: exports, Log: s.log, Now: s.now, Limits: nbd.Limits{Grace: time.Second}})
	go func() { c.ended <- server.Serve(serving, l) }()
	return nil
}

// serve exports all clones that were made, until stop.
func (r *drillRun) serve(ctx context.Context, dir string) (*clonesServed, error) {
	out := newClonesServed()
	path, err := out.place(r.s, dir)
	if err != nil {
		return nil, err
	}
	exports, err := r.exports(ctx, path, out)
	if err != nil {
		return nil, errors.Join(err, out.remove())
	}
	return out, out.listen(ctx, r.s, path, exports)
}

// exports finds the clones, and what is to be told of them.
func (r *drillRun) exports(ctx context.Context, path string, out *clonesServed) (cloneExports, error) {
	steps, err := r.steps(ctx)
	if err != nil {
		return cloneExports{}, err
	}
	e := cloneExports{s: r.s, clones: map[string]cloneExport{}}
	for _, step := range steps {
		if step.Kind != block.StepClone || step.Status != block.StepSucceeded {
			continue
		}
		c, from, err := r.clone(ctx, step.Seq)
		if err != nil {
			return e, err
		}
		p, err := drillParamsOf(step)
		if err != nil {
			return e, err
		}
		e.clones[string(c.ID)] = cloneExport{c, from}
		at := url.URL{Scheme: "nbd+unix", Path: "/" + string(c.ID), RawQuery: url.Values{"socket": {path}}.Encode()}
		out.volumes = append(out.volumes, ProbeVolume{SourceZone: step.SourceZone, Source: step.Source, Name: p.Name,
			Project: from.Entry.Volume.Project, Wave: step.Wave, Size: step.Point.Size, Point: step.Point.ID,
			At: step.Point.At, Root: step.Point.Root, NBD: "nbd+unix:///" + at.Path[1:] + "?" + at.RawQuery})
	}
	return e, nil
}

// stop ends all connections. When it returns, no device is held.
func (c *clonesServed) stop() error {
	c.end()
	return errors.Join(<-c.ended, c.remove())
}

// cloneExports are the clones of one drill, by name.
type cloneExports struct {
	s      *Service
	clones map[string]cloneExport
}

type cloneExport struct {
	clone block.DrillClone
	from  block.Replica
}

// Open implements nbd.Exports.
func (e cloneExports) Open(ctx context.Context, name string) (nbd.Export, error) {
	one, ok := e.clones[name]
	if !ok {
		return nbd.Export{}, block.Errorf(block.NotFound, "There is no such export.")
	}
	d, giveBack, err := e.s.openClone(ctx, one.clone, one.from)
	if err != nil {
		return nbd.Export{}, err
	}
	return nbd.Export{Device: d, Description: "a drill's clone of volume " + string(one.from.Source),
		Release: sync.OnceFunc(func() {
			if err := giveBack(); err != nil {
				e.s.log.Error("closing a drill's clone failed", "volume", one.clone.ID, "err", err)
			}
		})}, nil
}
