package rbd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kvol/internal/driver"
)

const kib4 = driver.BlockSize

func TestParseDiff(t *testing.T) {
	for _, c := range []struct {
		name, text string
		size       int64
		want       []driver.Extent
	}{
		{"nothing", `[]`, kib4, nil},
		{"whole blocks", `[{"offset":4096,"length":8192,"exists":"true"}]`, 8 * kib4,
			[]driver.Extent{{Off: kib4, Len: 2 * kib4}}},
		{"bytes within a block", `[{"offset":4100,"length":3,"exists":"true"}]`, 8 * kib4,
			[]driver.Extent{{Off: kib4, Len: kib4}}},
		{"two in one block", `[{"offset":10,"length":3,"exists":"true"},{"offset":100,"length":5000,"exists":"true"}]`,
			8 * kib4, []driver.Extent{{Off: 0, Len: 2 * kib4}}},
		{"a hole", `[{"offset":4096,"length":8192,"exists":"false"}]`, 8 * kib4,
			[]driver.Extent{{Off: kib4, Len: 2 * kib4, Zero: true}}},
		{"a hole with parts of blocks", `[{"offset":4000,"length":8192,"exists":"false"}]`, 8 * kib4,
			[]driver.Extent{{Off: 0, Len: kib4}, {Off: kib4, Len: kib4, Zero: true}, {Off: 2 * kib4, Len: kib4}}},
		{"a hole within a block", `[{"offset":10,"length":8,"exists":"false"}]`, 8 * kib4,
			[]driver.Extent{{Off: 0, Len: kib4}}},
		{"data and a hole in one block",
			`[{"offset":0,"length":10,"exists":"true"},{"offset":10,"length":8182,"exists":"false"}]`,
			8 * kib4, []driver.Extent{{Off: 0, Len: kib4}, {Off: kib4, Len: kib4, Zero: true}}},
		{"beyond the end", `[{"offset":4096,"length":999999,"exists":"true"},{"offset":9999999,"length":1,"exists":"true"}]`,
			2 * kib4, []driver.Extent{{Off: kib4, Len: kib4}}},
		{"not in order", `[{"offset":8192,"length":1,"exists":"true"},{"offset":0,"length":1,"exists":"true"}]`,
			8 * kib4, []driver.Extent{{Off: 0, Len: kib4}, {Off: 2 * kib4, Len: kib4}}},
	} {
		got, err := parseDiff(strings.NewReader(c.text), c.size)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	if _, err := parseDiff(strings.NewReader(`{"offset":`), kib4); err == nil {
		t.Error("half an answer was read")
	}
}

// FuzzParseDiff wants extents that keep the contract of a Differ from whatever
// is printed, and every byte that is said to have changed in one of them.
func FuzzParseDiff(f *testing.F) {
	f.Add(
		[]byte(`[{"offset":4000,"length":8192,"exists":"false"},{"offset":20480,"length":1,"exists":"true"}]`),
		int64(10*kib4),
	)
	f.Add([]byte(`[{"offset":-1,"length":9223372036854775807,"exists":"maybe"}]`), int64(kib4))
	f.Fuzz(func(t *testing.T, text []byte, size int64) {
		got, err := parseDiff(bytes.NewReader(text), size&(1<<40-1)&^(kib4-1))
		if err == nil {
			inOrder(t, got, size&(1<<40-1)&^(kib4-1))
		}
	})
}

func inOrder(t *testing.T, got []driver.Extent, size int64) {
	t.Helper()
	at := int64(0)
	for _, e := range got {
		if e.Len <= 0 || e.Off < at || e.End() > size || e.Off%kib4 != 0 || e.Len%kib4 != 0 {
			t.Fatalf("extent %+v after %d of %d in %v", e, at, size, got)
		}
		at = e.End()
	}
}

// TestParseDiffCovers draws changes and wants each of them covered, holes by
// nothing that says zero where a neighbour's data is.
func TestParseDiffCovers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		const size = 40 * kib4
		state := make([]byte, size) // 1: data, 2: hole
		text := []byte("[")
		for at := rnd.Int64N(9000); at < size; {
			n := min(1+rnd.Int64N(12000), size-at)
			kind, exists := byte(1), "true"
			if rnd.IntN(2) == 0 {
				kind, exists = 2, "false"
			}
			for i := at; i < at+n; i++ {
				state[i] = kind
			}
			if len(text) > 1 {
				text = append(text, ',')
			}
			text = fmt.Appendf(text, `{"offset":%d,"length":%d,"exists":%q}`, at, n, exists)
			at += n + rnd.Int64N(2)*rnd.Int64N(9000)
		}
		got, err := parseDiff(bytes.NewReader(append(text, ']')), size)
		if err != nil {
			t.Fatal(err)
		}
		inOrder(t, got, size)
		for _, e := range got {
			for i := e.Off; i < e.End(); i++ {
				if e.Zero && state[i] != 2 {
					t.Fatalf("%s: byte %d is no hole, and is said to be zero in %+v", text, i, e)
				}
				state[i] = 0
			}
		}
		if i := slices.IndexFunc(state, func(b byte) bool { return b != 0 }); i >= 0 {
			t.Fatalf("%s: the change of byte %d is not in %v", text, i, got)
		}
	}
}

func TestQemuName(t *testing.T) {
	d := &Driver{o: Options{Conf: "/etc/a:b/c=d", User: "x@y", Pool: "p", Namespace: "n"}}
	d.o.defaults()
	const want = `rbd:p/n/kvol-1@s:id=x\@y:conf=\/etc\/a\:b\/c\=d:client_mount_timeout=10` +
		`:rados_mon_op_timeout=30:rados_osd_op_timeout=30`
	if got := d.qemuName("kvol-1", "s"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReadChanges: what is printed of a large range, object by object, is held as one;
// what is no list, or has something after it, is no answer.
func TestReadChanges(t *testing.T) {
	const object = 4 << 20
	var text strings.Builder
	for i := range int64(1000) {
		fmt.Fprintf(&text, `,{"offset":%d,"length":%d,"exists":"true"}`, i*object, object)
	}
	whole := "[" + text.String()[1:] + "]"
	got, err := readChanges(json.NewDecoder(strings.NewReader(whole)))
	if err != nil || len(got) != 1 || got[0] != (change{0, 1000 * object, "true"}) {
		t.Errorf("%d changes, %v", len(got), err)
	}
	for _, bad := range []string{
		"", "null", "{}", "[", "[{}", whole[:len(whole)-1], whole + "[]", "[1]", `[{"offset":"x"}]`,
	} {
		if got, err := readChanges(json.NewDecoder(strings.NewReader(bad))); err == nil {
			t.Errorf("%.20q: %v", bad, got)
		}
	}
}
