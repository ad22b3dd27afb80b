package replication

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"kvol/internal/block"
)

func newCodec(t testing.TB) (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRun))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dec.Close)
	return enc, dec
}

func TestFrames(t *testing.T) {
	enc, dec := newCodec(t)
	noise := make([]byte, maxRun)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	runs := []Run{
		{Off: 4096, Len: 1 << 40},
		{Off: 1 << 41, Len: 8192, Data: bytes.Repeat([]byte("ab"), 4096)},
		{Off: 1 << 42, Len: maxRun, Data: noise},
		{Off: 1 << 43, Len: maxRun, Data: bytes.Repeat([]byte{7}, maxRun)},
	}
	var wire bytes.Buffer
	w := frameWriter{w: &wire}
	for _, run := range runs {
		kind, header, body := encodeRun(enc, nil, run)
		if err := w.write(kind, header, body); err != nil {
			t.Fatal(err)
		}
	}
	if w.sent != int64(wire.Len()) || w.sent > maxRun+20_000 {
		t.Errorf("%d bytes went out and %d were counted", wire.Len(), w.sent)
	}
	rd := frameReader{r: &wire}
	for _, want := range runs {
		kind, payload, err := rd.read()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRun(dec, nil, kind, payload)
		if err != nil || got.Off != want.Off || got.Len != want.Len || !bytes.Equal(got.Data, want.Data) ||
			(got.Data == nil) != (want.Data == nil) {
			t.Fatalf("run at %d came back as %d+%d: %v", want.Off, got.Off, got.Len, err)
		}
	}
	if _, _, err := rd.read(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestFrameDamage changes each bit, and cuts at each byte, of two frames.
func TestFrameDamage(t *testing.T) {
	var wire bytes.Buffer
	w := frameWriter{w: &wire}
	for range 2 {
		if err := w.write(frameOffer, []byte(`{"Volume":"v"}`)); err != nil {
			t.Fatal(err)
		}
	}
	whole := wire.Bytes()
	readAll := func(p []byte) (n int, err error) {
		rd := frameReader{r: bytes.NewReader(p)}
		for {
			if _, _, err = rd.read(); err != nil {
				return n, err
			}
			n++
		}
	}
	for i := range len(whole) * 8 {
		p := bytes.Clone(whole)
		p[i/8] ^= 1 << (i % 8)
		if n, err := readAll(p); err == io.EOF || n == 2 {
			t.Fatalf("bit %d changed, and nobody noticed", i)
		}
	}
	for i := range whole {
		if _, err := readAll(whole[:i]); err == io.EOF && i != 0 && i != len(whole)/2 {
			t.Fatalf("cut at byte %d, and nobody noticed", i)
		}
	}
	half := whole[:len(whole)/2]
	if n, err := readAll(append(bytes.Clone(half), half...)); n != 1 || !block.Is(err, block.Corrupt) {
		t.Errorf("a frame that came twice: %d frames, %v", n, err)
	}
}

// TestEncoding: compression is tried where a run looks as if it helped, and used where
// it does.
func TestEncoding(t *testing.T) {
	enc, _ := newCodec(t)
	noise, r := make([]byte, 2*lookEvery), rand.New(rand.NewPCG(2, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("a volume and its replica; "), 2*lookEvery/26)
	late := append(bytes.Clone(noise[:lookEvery]), text[:lookEvery]...)
	twice := append(bytes.Clone(noise[:lookEvery]), noise[:lookEvery]...)
	for _, c := range []struct {
		what string
		data []byte
		want uint32
	}{
		{"noise", noise, encodedRaw}, {"little noise", noise[:1024], encodedRaw}, {"text", text, encodedZstd},
		{"text after noise", late, encodedZstd}, {"noise that comes twice", twice, encodedRaw},
	} {
		_, header, body := encodeRun(enc, nil, Run{Len: int64(len(c.data)), Data: c.data})
		if got := binary.LittleEndian.Uint32(header[12:]); got != c.want {
			t.Errorf("%s: encoding %d with %d bytes of %d", c.what, got, len(body), len(c.data))
		}
	}
	if got := testing.AllocsPerRun(10, func() { isDense(noise) }); got != 0 {
		t.Errorf("to look into a run takes %v allocations", got)
	}
}

func FuzzFrame(f *testing.F) {
	enc, dec := newCodec(f)
	for _, run := range []Run{{Off: 4096, Len: 8192}, {Off: 0, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)},
		{Off: 8192, Len: 5, Data: []byte{1, 9, 200, 3, 77}}} {
		var wire bytes.Buffer
		w := frameWriter{w: &wire}
		kind, header, body := encodeRun(enc, nil, run)
		_ = w.write(kind, header, body)
		_ = w.write(frameCommit, []byte(`{}`))
		f.Add(wire.Bytes())
		f.Add(append([]byte{byte(kind)}, append(header, body...)...))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		rd := frameReader{r: bytes.NewReader(p)}
		for {
			kind, payload, err := rd.read()
			if err != nil {
				break
			}
			if len(payload) > kind.limit() {
				t.Fatalf("a payload of %d bytes", len(payload))
			}
		}
		if rd.buf.Cap() > 2*len(p)+1024 {
			t.Fatalf("%d bytes were taken for %d", rd.buf.Cap(), len(p))
		}
		if len(p) == 0 {
			return
		}
		for _, kind := range []frameKind{frameData, frameZero} { // as if the checksum were right
			run, err := decodeRun(dec, nil, kind, p[1:])
			if err != nil && !block.Is(err, block.Corrupt) {
				t.Fatal(err)
			}
			odd := run.Data != nil && int64(len(run.Data)) != run.Len
			if err == nil && (len(run.Data) > maxRun || run.End() < run.Off || odd) {
				t.Fatalf("run %d+%d with %d bytes", run.Off, run.Len, len(run.Data))
			}
		}
	})
}
