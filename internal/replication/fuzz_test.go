package replication

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// said is a frame as FuzzStream has it: its kind, the length of its payload, and
// that.
func said(kind frameKind, v any) []byte {
	p, _ := v.([]byte)
	if p == nil {
		p, _ = json.Marshal(v) // it has a JSON form
	}
	return append(binary.LittleEndian.AppendUint16([]byte{byte(kind)}, uint16(len(p))), p...)
}

// stories are what a source may say.
func stories(f *testing.F) (all [][]byte) {
	enc, _ := newCodec(f)
	point := block.Point{ID: "p", Volume: "v", Epoch: 1, Sequence: 1, At: time.Unix(1, 0), Size: 1 << 20}
	step := block.Step{Target: point, Epoch: 1}
	offer := Offer{Volume: "v", Protection: 2, Epoch: 1, Holders: []block.Zone{"c"}}
	kind, header, body := encodeRun(enc, nil, Run{Off: 4096, Len: 4096, Data: make([]byte, 4096)})
	run := append(append([]byte{}, header...), body...)
	origin := offer
	origin.Volume, origin.Origin = "w", &block.Origin{Zone: "b", Volume: "old", Point: point, Began: time.Unix(2, 0)}
	gone := offer
	gone.Gone = true
	for _, frames := range [][][]byte{
		{said(frameOffer, offer), said(frameBegin, step), said(kind, run), said(frameCommit, Commit{})},
		{said(frameOffer, offer), said(frameHeartbeat, Heartbeat{Point: "p", At: time.Unix(3, 0), Entry: &block.Entry{},
			Drop: []block.PointID{"p"}})},
		{said(frameOffer, origin)},
		{said(frameOffer, gone), said(frameGone, []byte{})},
		{said(frameBegin, step), said(frameEnd, []byte{})},
	} {
		var one []byte
		for _, frame := range frames {
			one = append(one, frame...)
		}
		all = append(all, one)
	}
	return all
}

// FuzzStream has a zone that is known say anything, in any order, as if the
// checksums of its frames were right. It is understood or refused, and what it
// says is no fault of this zone.
func FuzzStream(f *testing.F) {
	for _, story := range stories(f) {
		f.Add(story)
	}
	c, err := catalog.Open(context.Background(), catalog.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	set, err := driver.NewSet(map[string]driver.Driver{"s": mem.New(mem.Options{Capacity: 64 << 20})},
		[]block.Backend{{Name: "main", Store: "s"}})
	if err != nil {
		f.Fatal(err)
	}
	receiver := NewReceiver(ReceiverConfig{Catalog: c, Backends: set, Zone: "b", Protections: func() []block.Protection {
		return []block.Protection{{Seq: 2, SourceZone: "a", Destination: "b", Backup: block.Backend{Name: "main"},
			Interval: time.Second, Enabled: true}}
	}})
	_, dec := newCodec(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }() // ends with the pipe
		s, err := newStream(here, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		in := &inbound{receiver: receiver, from: "a", cancel: func() {}}
		server := server{stream: s, target: in, dec: dec, scratch: make([]byte, 0, maxRun)}
		for len(p) >= 3 && err == nil {
			kind, n := frameKind(p[0]), min(int(binary.LittleEndian.Uint16(p[1:])), len(p)-3)
			err = server.answer(t.Context(), kind, p[3:3+n])
			p = p[3+n:]
		}
		if err != nil && block.KindOf(err) == block.Internal {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil && block.KindOf(err) == block.Internal {
			t.Fatal(err)
		}
		_ = s.close()
		_ = there.Close()
	})
}
