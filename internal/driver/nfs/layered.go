package nfs

import (
	"context"
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// layered is the form of volumes as qcow2 files that stand on each other. The
// driver's structure guards what it knows of them; see forest.
type layered struct {
	d     *Driver
	trees forest
}

var _ form = (*layered)(nil)

// longest is how long a program may take whose time grows with the volume.
const longest = 6 * time.Hour

func (l *layered) size(_ context.Context, at place) (int64, error) {
	f, err := l.d.openFile(at, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h, err := readHeader(f)
	return h.size, err
}

// make makes an image that is not there for anybody yet, on a layer or on
// nothing.
func (l *layered) make(ctx context.Context, live place, size int64, on string) (*os.File, place, error) {
	f, at, err := l.d.create()
	if err != nil {
		return nil, "", err
	}
	args := []string{"create", "-q", "-f", "qcow2", "-u"}
	if on != "" {
		args = append(args, "-b", string(layerAt(on)), "-F", "qcow2")
	}
	args = append(args, descriptor(firstFile), strconv.FormatInt(size, 10))
	if _, err = l.d.qemuImg(ctx, l.d.o.Timeout, []*os.File{f}, args...); err == nil {
		err = l.d.forHosts(f, live)
	}
	if err != nil {
		l.d.discard(f, at)
		return nil, "", err
	}
	return f, at, nil
}

// put makes a live file of an image on a layer.
func (l *layered) put(ctx context.Context, live place, size int64, on string) error {
	f, at, err := l.make(ctx, live, size, on)
	if err != nil {
		return err
	}
	if err := l.d.publish(f, at, live); err != nil {
		return err
	}
	l.trees.on[live] = on
	return nil
}

func (l *layered) create(ctx context.Context, live place, size int64) error {
	return l.put(ctx, live, size, "")
}

func (l *layered) clone(ctx context.Context, from, live place, size int64) error {
	return l.put(ctx, live, size, layerOf(from))
}

func (l *layered) revert(ctx context.Context, to, live place) error {
	size, err := l.size(ctx, to)
	if err != nil {
		return err
	}
	return l.put(ctx, live, size, layerOf(to))
}

func layerOf(at place) string { return strings.TrimPrefix(string(at), layerPrefix) }

// extend has qemu-img grow the file. One that is open is closed meanwhile: the
// next request to the device opens it again.
func (l *layered) extend(ctx context.Context, v *volume, live place, size int64) error {
	if err := l.mine(v); err != nil {
		return err
	}
	v.gate.Lock()
	defer v.gate.Unlock()
	dev, resume, err := l.rest(ctx, v)
	if err != nil {
		return err
	}
	defer resume()
	c, err := l.d.openChain(live, os.O_RDWR)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = l.d.qemuImg(ctx, l.d.o.Timeout, c, "resize", "-q", c.name(firstFile), strconv.FormatInt(size, 10))
	if err == nil {
		err = failed(c[0].Sync())
	}
	if err == nil && dev != nil {
		dev.size.Store(size)
	}
	return err
}

// replace copies the file, since on this file system it can't be had for less.
func (l *layered) replace(ctx context.Context, v *volume, live place) error {
	_, resume, err := l.rest(ctx, v)
	if err != nil {
		return err
	}
	defer resume()
	from, err := l.d.openFile(live, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()
	f, at, err := l.d.create()
	if err != nil {
		return err
	}
	if err := errors.Join(copyFile(ctx, f, from), l.d.forHosts(f, live)); err != nil {
		l.d.discard(f, at)
		return failed(err)
	}
	return l.d.publish(f, at, live)
}

// copyFile copies what is data in a file.
func copyFile(ctx context.Context, to, from *os.File) error {
	info, err := from.Stat()
	if err == nil {
		err = to.Truncate(info.Size())
	}
	for off := int64(0); err == nil && off < info.Size(); {
		var e driver.Extent
		if e, err = segment(from, off, info.Size()); err != nil {
			break
		}
		e.Len = min(e.Len, readSize)
		if off = e.End(); !e.Zero {
			p := make([]byte, e.Len)
			if _, err = from.ReadAt(p, e.Off); err == nil {
				_, err = to.WriteAt(p, e.Off)
			}
		}
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// mine refuses a change of a volume that a host may have open.
func (l *layered) mine(v *volume) error {
	if l.d.isLent(v) {
		return block.Errorf(block.Conflict, "Volume %s is open at a host by NFS. This share's file system does not share "+
			"blocks between files, so nothing of it can be changed or snapshotted until the host lets go.", v.id)
	}
	return nil
}

// rest closes the file of an open volume, so that all of it is on the share and
// it may be changed.
func (l *layered) rest(ctx context.Context, v *volume) (dev *imageDevice, resume func(), err error) {
	l.d.mu.Lock()
	dev, open := v.device.(*imageDevice)
	l.d.mu.Unlock()
	if !open {
		return nil, func() {}, nil
	}
	resume, err = dev.rest(ctx)
	return dev, resume, err
}

// prepare makes the image that the volume goes on in. The cut gives the file
// that it was until then another name as well, and then takes its own from it:
// the volume has a file at any moment.
func (l *layered) prepare(ctx context.Context, v *volume, live place) (do cut, drop func(), err error) {
	if err := l.mine(v); err != nil {
		return nil, nil, err
	}
	size, err := l.size(ctx, live)
	if err != nil {
		return nil, nil, err
	}
	layer := block.NewID()
	f, at, err := l.make(ctx, live, size, layer)
	if err != nil {
		return nil, nil, err
	}
	drop = func() {
		if f != nil {
			l.d.discard(f, at)
		}
	}
	do = func(ctx context.Context, dir string, e entry) (entry, error) {
		_, resume, err := l.rest(ctx, v)
		if err != nil {
			return e, err
		}
		defer resume()
		if err := l.d.root.Link(string(live), string(layerAt(layer))); err != nil {
			return e, failed(err)
		}
		image := f
		f = nil // it has its own end now
		if err := l.d.publish(image, at, live); err != nil {
			return e, errors.Join(err, l.d.remove(layerAt(layer)))
		}
		l.trees.cut(live, layer)
		e.layer = layer
		file, err := e.file()
		if err != nil {
			return e, err
		}
		if err := l.d.writeFile(path.Join(dir, file), nil); err != nil {
			return e, err
		}
		l.trees.named[layer] = true
		return e, nil
	}
	return do, drop, nil
}

func (l *layered) dropped(live place, entries ...entry) {
	delete(l.trees.on, live)
	for _, e := range entries {
		delete(l.trees.named, e.layer)
	}
}

// sweep removes layers that nothing needs, and merges those that only one other
// file needs. A file of a volume that somebody has open is left for later.
func (l *layered) sweep(ctx context.Context) error {
	if err := l.trees.plant(l.d); err != nil {
		return err
	}
	for {
		free, upper, found := l.trees.next(l.state)
		switch {
		case !found:
			return nil
		case upper == "":
			if err := l.d.remove(layerAt(free)); err != nil {
				return err
			}
			delete(l.trees.on, layerAt(free))
		default:
			if err := l.merge(ctx, free, upper); err != nil {
				return err
			}
		}
	}
}

// state says whether somebody has the file of a volume open for writing, and
// whether that may be a host, whose programs know the layers by their files.
func (l *layered) state(live place) (busy, shared bool) {
	id, ok := liveID(string(live))
	if !ok {
		return false, false
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	v := l.d.volumes[id]
	return v != nil && (v.device != nil || v.lending == lent), v != nil && v.lending == lent
}

// merge writes the data of a file down into the layer on which it alone stands,
// and puts that layer in its place. Until then the upper file has all that it
// had, so that an interrupted merge is simply done again.
func (l *layered) merge(ctx context.Context, lower string, upper place) error {
	c, err := l.d.openChain(upper, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer c.close()
	if len(c) < 2 {
		return block.Errorf(block.Corrupt, "A file of the share does not stand on the layer it should.")
	}
	if _, err := l.d.qemuImg(ctx, longest, c, "commit", "-q", "-d", c.name(firstFile)); err != nil {
		return err
	}
	f, err := l.d.openFile(layerAt(lower), os.O_RDWR)
	if err != nil {
		return err
	}
	if err := l.d.publish(f, layerAt(lower), upper); err != nil {
		return err
	}
	l.trees.merge(lower, upper)
	return nil
}

// forest is which file stands on which layer, and which layers are snapshots. It
// is read from the share once; the driver's structure guards it.
type forest struct {
	planted bool
	on      map[place]string // files and the layers they stand on; "" for none
	named   map[string]bool
}

// plant reads what is there. The second name of a volume's file, which an
// interrupted cut left, is a layer on which nothing stands.
func (t *forest) plant(d *Driver) error {
	if t.planted {
		return nil
	}
	t.on, t.named = map[place]string{}, map[string]bool{}
	names, err := d.list(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		_, live := liveID(name)
		layer, below := strings.CutPrefix(name, layerPrefix)
		if !live && !(below && isLayer(layer)) {
			continue
		}
		f, err := d.openFile(place(name), os.O_RDONLY)
		if err != nil {
			return err
		}
		h, err := readHeader(f)
		if err := errors.Join(err, failed(f.Close())); err != nil {
			return err
		}
		t.on[place(name)] = h.layer
	}
	dirs, err := d.list(volumesDir)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		files, err := d.list(path.Join(volumesDir, dir))
		if err != nil {
			return err
		}
		for _, file := range files {
			if e, ok := parseEntry(file); ok && e.layer != "" {
				t.named[e.layer] = true
			}
		}
	}
	t.planted = true
	return nil
}

func (t *forest) cut(live place, layer string) {
	t.on[layerAt(layer)], t.on[live] = t.on[live], layer
}

func (t *forest) merge(lower string, upper place) {
	t.on[upper] = t.on[layerAt(lower)]
	delete(t.on, layerAt(lower))
}

// next finds a layer that is no snapshot, and on which nothing stands (upper is
// "") or one file only, which is not busy. Layers of volumes that hosts have open
// are left alone.
func (t *forest) next(state func(place) (busy, shared bool)) (free string, upper place, found bool) {
	above, count, pinned := map[string]place{}, map[string]int{}, map[string]bool{}
	for at, on := range t.on {
		if on == "" {
			continue
		}
		above[on] = at
		count[on]++
		if _, shared := state(at); shared {
			for ; on != "" && !pinned[on]; on = t.on[layerAt(on)] {
				pinned[on] = true
			}
		}
	}
	for at := range t.on {
		layer, is := strings.CutPrefix(string(at), layerPrefix)
		if !is || t.named[layer] || pinned[layer] || count[layer] > 1 {
			continue
		}
		if count[layer] == 0 {
			return layer, "", true
		}
		if busy, _ := state(above[layer]); !busy {
			free, upper, found = layer, above[layer], true
		}
	}
	return free, upper, found
}
