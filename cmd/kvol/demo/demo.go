// Package demo plays kvol's main job on one machine: three zones as three
// child processes, a volume written over the network, its zone killed, its
// bytes back in another zone, everything compared. It is a client like any
// other; it knows nothing of the zones but their configuration files.
package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
)

// Options say how the demo runs.
type Options struct {
	Dir      string // where everything is put; a temporary directory if empty
	Keep     bool   // leave the zones running until ctx ends
	BasePort int    // first of nine ports; free ones if 0
	Exe      string // the kvol program
	Elsewhere
	Out io.Writer
	Now func() time.Time
}

// demo is one run.
type demo struct {
	account
	o       Options
	t       *Topology
	zones   map[string]*process
	rnd     *rand.Rand
	files   tree     // in the image
	seed    [32]byte // of the random bytes
	journal journal
	volume  client.Volume
}

// Run plays the demo. It returns an error if anything failed or any comparison
// did not hold.
func Run(ctx context.Context, o Options) error {
	temporary := o.Dir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "kvol-demo-")
		if err != nil {
			return err
		}
		o.Dir = dir
	} else if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	d := &demo{account: account{out: o.Out, start: o.Now(), now: o.Now}, o: o, zones: map[string]*process{},
		rnd: rand.New(rand.NewPCG(uint64(o.Now().UnixNano()), 1))}
	defer d.stopAll()
	err := d.play(ctx)
	if gone := os.Remove(d.imagePath()); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	d.summary()
	switch {
	case err != nil:
		fmt.Fprintf(o.Out, "\nThe demo FAILED: %v\nLogs and data are in %s\n", err, o.Dir)
		return err
	case o.Keep:
		fmt.Fprintf(o.Out, "\nEvery comparison held. The zones run until you interrupt this (Ctrl-C).\n"+
			"Try:  source %s/openrc-kilo1 && kvol volume list\n      everything else is in %s/demo.json\n", o.Dir, o.Dir)
		<-ctx.Done()
	default:
		fmt.Fprintf(o.Out, "\nEvery comparison held.\n")
	}
	if temporary && !o.Keep {
		d.stopAll()
		return os.RemoveAll(o.Dir)
	}
	return nil
}

func (d *demo) play(ctx context.Context) error {
	acts := []func(context.Context) error{d.startZones, d.writeVolume, d.createElsewhere, d.loseZone, d.zoneReturns}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stopAll() {
	for name, p := range d.zones {
		p.stop()
		delete(d.zones, name)
	}
}

// startZones is act 1.
func (d *demo) startZones(ctx context.Context) error {
	d.chapter(1, "Three zones, each a process of its own")
	var err error
	if d.t, err = prepare(d.o.Dir, d.o.BasePort, d.o.Elsewhere); err != nil {
		return err
	}
	for _, z := range d.t.Zones {
		if err := d.startZone(ctx, z.Name); err != nil {
			return err
		}
		d.did("zone %s is ready at %s (configuration %s)", z.Name, z.URL, z.Config)
	}
	return d.t.save()
}

func (d *demo) startZone(ctx context.Context, name string) error {
	p, err := start(ctx, d.o.Exe, d.t, name)
	if err == nil {
		d.zones[name] = p
	}
	return err
}

func (d *demo) login(ctx context.Context, zone string, user int) (*client.Session, error) {
	u, z := d.t.Users[user], d.t.zone(zone)
	return client.Login(ctx, client.Auth{URL: z.IdentityURL, User: u.Name, Password: u.Password,
		Project: u.ProjectID, Region: z.Region})
}

// The users of the demo, as indexes into Topology.Users.
const (
	admin = 0
	alice = 1
)

// writeVolume is act 2.
func (d *demo) writeVolume(ctx context.Context) error {
	d.chapter(2, "A tenant makes a volume in mitaka1 and writes to it")
	s, err := d.login(ctx, "mitaka1", alice)
	if err != nil {
		return err
	}
	d.did("alice has a token and a catalog of %d services", len(s.Catalog))
	types, err := s.Types(ctx)
	if err != nil {
		return err
	}
	for _, t := range types {
		d.did("volume type %s (%s) on backend %s", t.Name, t.ID, t.ExtraSpecs["volume_backend_name"])
	}
	v, err := s.CreateVolume(ctx, client.NewVolume{Name: "ledger", Size: volumeGiB, VolumeType: typeName,
		Metadata: map[string]string{"owner": "alice"}})
	if err != nil {
		return err
	}
	if d.volume, err = s.WaitVolume(ctx, v.ID, nil, "available"); err != nil {
		return err
	}
	d.did("volume ledger (%s, %d GiB) is available", v.ID, v.Size)
	if d.files, err = makeImage(d.imagePath(), d.rnd); err != nil {
		return err
	}
	copy(d.seed[:], noise(d.rnd, len(d.seed)))
	return d.attached(ctx, s, v.ID, func(c *nbd.Conn) error {
		if err := d.putImage(c); err != nil {
			return err
		}
		if err := put(c, d.noise(), noiseAt); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		d.did("wrote %s: a FAT32 file system with %d files, and %s of random bytes; flushed",
			size(imageSize+noiseSize), len(d.files), size(noiseSize))
		return nil
	})
}

// imagePath is the file system image that is written to the volume.
func (d *demo) imagePath() string { return filepath.Join(d.o.Dir, "tree.img") }

func (d *demo) putImage(c *nbd.Conn) error {
	image, err := os.Open(d.imagePath())
	if err != nil {
		return err
	}
	defer image.Close()
	return put(c, image, imageAt)
}

// noise is the random bytes that are written to the volume.
func (d *demo) noise() io.Reader { return io.LimitReader(rand.NewChaCha8(d.seed), noiseSize) }

// written is the SHA-256 of all that the volume must hold after act 2.
func (d *demo) written() (string, error) {
	image, err := os.Open(d.imagePath())
	if err != nil {
		return "", err
	}
	defer image.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.MultiReader(image, io.LimitReader(zeros{}, noiseAt-imageAt-imageSize), d.noise(),
		io.LimitReader(zeros{}, volumeGiB<<30-noiseAt-noiseSize)))
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

var connector = map[string]any{"host": "demo-host", "platform": "x86_64", "os_type": "linux"}

// attach takes a volume through Cinder's old flow: reserve, connect, attach.
func (d *demo) attach(ctx context.Context, s *client.Session, id string) (*nbd.Conn, error) {
	if err := s.VolumeAction(ctx, id, "os-reserve", map[string]any{}, nil); err != nil {
		return nil, err
	}
	info, err := s.Connect(ctx, id, connector)
	if err != nil {
		return nil, err
	}
	c, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err != nil {
		return nil, fmt.Errorf("attach volume %s: %w", id, err)
	}
	err = s.VolumeAction(ctx, id, "os-attach", map[string]any{"host_name": "demo-host", "mountpoint": "/dev/vdb",
		"mode": "rw"}, nil)
	return c, err
}

// detach is attach backwards.
func (d *demo) detach(ctx context.Context, s *client.Session, id string, c *nbd.Conn) error {
	if err := s.VolumeAction(ctx, id, "os-begin_detaching", map[string]any{}, nil); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	if err := s.Disconnect(ctx, id, connector); err != nil {
		return err
	}
	return s.VolumeAction(ctx, id, "os-detach", map[string]any{}, nil)
}

// attached runs fn on the volume's bytes.
func (d *demo) attached(ctx context.Context, s *client.Session, id string, fn func(*nbd.Conn) error) error {
	c, err := d.attach(ctx, s, id)
	if err != nil {
		return err
	}
	if err := fn(c); err != nil {
		return errors.Join(err, c.Close())
	}
	return d.detach(ctx, s, id, c)
}
