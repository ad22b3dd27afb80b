package churn_test

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/churn"
)

const (
	mib       = 1 << 20
	blockSize = 4096
)

// disk is a volume as its points see it.
type disk struct {
	t     *testing.T
	bytes []byte
	meter churn.Meter
	at    time.Time
	n     int // of the newest point
	clean block.PointID
	since int // the point by which it became suspect; 0 for none
	tally churn.Tally
}

func newDisk(t *testing.T, size int, data []byte) *disk {
	d := &disk{t: t, bytes: make([]byte, size), at: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	d.write(0, data)
	d.point(0) // the first copy
	return d
}

// write writes data where each of its blocks has something before or not.
func (d *disk) write(off int, data []byte) {
	for i := 0; i < len(data); i += blockSize {
		before, now := d.bytes[off+i:off+i+blockSize], data[i:min(i+blockSize, len(data))]
		now = append(bytes.Clone(now), make([]byte, blockSize-len(now))...)
		if !bytes.Equal(before, make([]byte, blockSize)) {
			d.tally.Over(int64(off+i), before, now)
		}
		d.tally.Wrote(blockSize, blockSize, true)
		copy(before, now)
	}
}

// trim gives a range back.
func (d *disk) trim(off, length int) {
	p := d.bytes[off : off+length]
	d.tally.Wrote(int64(length), 0, false)
	d.tally.Over(int64(off), p, nil)
	clear(p)
}

// point commits what was written since the last one.
func (d *disk) point(after time.Duration) {
	base := block.PointID("")
	if d.n > 0 {
		base = block.PointID(fmt.Sprint(d.n))
	}
	s := churn.Step{PointStats: d.tally.PointStats, Base: base, BaseAt: d.at, At: d.at.Add(after)}
	s.Span = after
	d.tally, d.at = churn.Tally{}, s.At
	d.n++
	if d.meter.Add(s) {
		d.since, d.clean = d.n, d.meter.Base
	}
}

// pool is what programs and people write.
var pool = sync.OnceValue(func() []byte {
	words := []string{"volume", "the", "snapshot", "of", "42", "\n", "replica", "{\"id\": ", "0x7f", "cafe", "point", " "}
	r := rand.New(rand.NewPCG(1, 1))
	var b bytes.Buffer
	for b.Len() < 2*mib {
		b.WriteString(words[r.IntN(len(words))])
		fmt.Fprintf(&b, "%d ", r.IntN(1e6))
	}
	return b.Bytes()
})

// text is some of it, of any length.
func text(length int, seed uint64) []byte {
	out := make([]byte, 0, length)
	for n := seed * 7919; len(out) < length; n += 104729 {
		from := int(n % mib)
		out = append(out, pool()[from:from+min(mib/2, length-len(out))]...)
	}
	return out
}

// archived is what an archiver makes of text.
var archived = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for n := uint64(0); b.Len() < 4*mib; n++ {
		_, _ = z.Write(text(mib, n)) // into memory
		_ = binary.Write(z, binary.LittleEndian, rand.New(rand.NewPCG(n, 2)).Uint64())
	}
	return b.Bytes()
})

func archive(length int, seed uint64) []byte {
	out := make([]byte, 0, length)
	for from := int(seed * 7919 % mib); len(out) < length; {
		out = append(out, archived()[from:from+min(mib, length-len(out))]...)
	}
	return out
}

// encrypt is what ransomware does, and LUKS.
func encrypt(t *testing.T, p []byte) []byte {
	c, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(p))
	cipher.NewCTR(c, make([]byte, 16)).XORKeyStream(out, p)
	return out
}

// work is what a file system does all day: it rewrites, appends and deletes.
func (d *disk) work(points int) {
	used := len(d.bytes) / 2
	for n := range points {
		r := rand.New(rand.NewPCG(uint64(d.n), 7))
		for range 8 {
			d.write(r.IntN(used/blockSize)*blockSize, text(4*blockSize, uint64(n)))
		}
		d.point(10 * time.Second)
	}
}

func (d *disk) calm(what string) {
	d.t.Helper()
	if d.since != 0 {
		d.t.Errorf("%s looks suspicious at point %d: %+v", what, d.since, d.meter)
		d.since = 0
	}
}

// TestEncryptionInPlaceIsNoticed: early, and with the right last clean point.
func TestEncryptionInPlaceIsNoticed(t *testing.T) {
	const size, data = 64 * mib, 32 * mib
	for name, each := range map[string]int{"all at once": data, "4 MiB a point": 4 * mib, "1 MiB a point": mib} {
		d := newDisk(t, size, text(data, 1))
		d.work(40)
		d.calm("work")
		clean, touched := d.n, 0
		for off := 0; off < data && d.since == 0; off += each {
			d.write(off, encrypt(t, d.bytes[off:off+each]))
			touched += each
			d.point(10 * time.Second)
		}
		if d.since == 0 || string(d.clean) != fmt.Sprint(clean) {
			t.Errorf("%s: suspect at point %d of %d, clean up to %q where that is %d", name, d.since, d.n, d.clean, clean)
		}
		if touched > data/2 && each < data/4 {
			t.Errorf("%s: noticed after %d MiB of %d", name, touched/mib, data/mib)
		}
		d.work(5)
		if !d.meter.Raised {
			t.Errorf("%s: forgotten", name)
		}
	}
}

// TestWhatIsNoEncryption: none of it is an alarm.
func TestWhatIsNoEncryption(t *testing.T) {
	const size, data = 64 * mib, 24 * mib
	t.Run("an archive is copied, and goes again", func(t *testing.T) {
		d := newDisk(t, size, text(data, 1))
		d.work(20)
		for range 3 {
			for off := 0; off < 16*mib; off += 4 * mib {
				d.write(48*mib+off, archive(4*mib, uint64(off)))
				d.point(10 * time.Second)
			}
			d.calm("an archive")
			d.trim(48*mib, 16*mib)
			d.point(10 * time.Second)
			d.calm("its deletion")
		}
	})
	t.Run("a nightly burst", func(t *testing.T) {
		d := newDisk(t, size, text(data, 1))
		for night := range 3 {
			d.work(20)
			d.write(0, text(data, uint64(night+5))) // twenty times of what an hour changes
			d.point(10 * time.Second)
			d.write(48*mib, archive(16*mib, uint64(night))) // and last night's backup is overwritten
			d.point(10 * time.Second)
			d.calm("a burst")
		}
	})
	t.Run("an encrypted volume", func(t *testing.T) {
		d := newDisk(t, size, encrypt(t, text(data, 1)))
		for n := range 20 {
			d.write(n*mib, encrypt(t, text(2*mib, uint64(n)+3)))
			d.point(10 * time.Second)
		}
		d.write(0, encrypt(t, text(data, 99)))
		d.point(10 * time.Second)
		d.calm("LUKS")
	})
	t.Run("a whole copy, also a second one", func(t *testing.T) {
		d := newDisk(t, size, text(data, 1))
		d.work(5)
		d.write(0, encrypt(t, text(data, 1)))
		d.n = 0 // nothing was common with what was here
		d.point(10 * time.Second)
		d.calm("a whole copy")
	})
	t.Run("few bytes", func(t *testing.T) {
		d := newDisk(t, size, text(data, 1))
		d.work(10)
		d.write(0, encrypt(t, d.bytes[:2*mib])) // one file is encrypted
		d.point(10 * time.Second)
		d.work(100)
		d.calm("a file")
		if d.meter.Base != "" {
			t.Errorf("it is followed still: %+v", d.meter)
		}
	})
}

// TestWhatWasDismissedIsUsual: the same again is no alarm, and more is.
func TestWhatWasDismissedIsUsual(t *testing.T) {
	const size, data = 64 * mib, 32 * mib
	d := newDisk(t, size, text(data, 1))
	d.work(10)
	again := func(length int) {
		for off := 0; off < length; off += 4 * mib {
			d.write(off, encrypt(t, d.bytes[off:off+4*mib]))
			d.point(10 * time.Second)
		}
	}
	again(12 * mib)
	if d.since == 0 {
		t.Fatal("it was not noticed")
	}
	d.meter.Dismiss(d.at)
	d.since = 0
	d.write(0, text(12*mib, 3))
	d.work(200)
	again(12 * mib)
	d.calm("what was dismissed")
	d.work(200)
	d.write(0, text(data, 3))
	d.work(200)
	d.write(0, encrypt(t, d.bytes[:data]))
	d.point(10 * time.Second)
	d.point(10 * time.Second)
	if d.since == 0 {
		t.Error("much more than what was dismissed is not noticed")
	}
}

// TestEntropy: what the thresholds lie between.
func TestEntropy(t *testing.T) {
	for name, c := range map[string]struct {
		p        []byte
		from, to float64
	}{
		"zeros":     {make([]byte, blockSize), 0, 0},
		"text":      {text(blockSize, 1), 3, 6},
		"encrypted": {encrypt(t, text(blockSize, 1)), 7.9, 8},
		"nothing":   {nil, 0, 0},
	} {
		if e := churn.Entropy(c.p); e < c.from || e > c.to {
			t.Errorf("%s has %.2f bits a byte", name, e)
		}
	}
}

func BenchmarkOver(b *testing.B) {
	before, now := text(mib, 1), text(mib, 2)
	b.SetBytes(mib)
	var t churn.Tally
	for b.Loop() {
		t.Over(0, before, now)
	}
}
