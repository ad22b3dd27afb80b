package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"kvol/internal/backup"
	"kvol/internal/block"
)

// Run tests a store against the contract of backup.Store; open returns an empty
// one.
func Run(t *testing.T, open func(*testing.T) backup.Store) {
	for name, test := range map[string]func(*testing.T, backup.Store){
		"objects": objects, "names": names, "lists": lists, "limits": limits, "many at once": manyAtOnce,
		"canceled": canceled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s backup.Store, name string, content []byte) {
	t.Helper()
	has, err := s.Has(t.Context(), name)
	must(t, err)
	got, err := s.Get(t.Context(), name, 1<<20)
	if content == nil {
		if has || !block.Is(err, block.NotFound) {
			t.Errorf("%s, which is gone: %v, %v", name, has, err)
		}
		return
	}
	must(t, err)
	if !has || !bytes.Equal(got, content) {
		t.Errorf("%s: there: %v; %d bytes, want %d", name, has, len(got), len(content))
	}
}

func objects(t *testing.T, s backup.Store) {
	const name = "zone-1/p/chunks/0a/object.1"
	want(t, s, name, nil)
	for _, content := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{0, 0xff, '\n'}, 100_000), []byte("two")} {
		must(t, s.Put(t.Context(), name, content))
		want(t, s, name, content)
	}
	want(t, s, "zone-1/p/chunks/0a", nil) // what others lie below is no object
	must(t, s.Delete(t.Context(), name))
	want(t, s, name, nil)
	must(t, s.Delete(t.Context(), name))
	must(t, s.Delete(t.Context(), "zone-1/never/was"))
}

func names(t *testing.T, s backup.Store) {
	for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.b", ".a", "a b", "ä", "a\x00",
		"a/" + strings.Repeat("b", 200), strings.Repeat("a/", 300) + "a"} {
		_, getErr := s.Get(t.Context(), name, 10)
		_, hasErr := s.Has(t.Context(), name)
		errs := []error{s.Put(t.Context(), name, nil), getErr, hasErr, s.Delete(t.Context(), name)}
		for _, err := range s.List(t.Context(), name) {
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !block.Is(err, block.Invalid) {
				t.Errorf("%q, call %d: %v", name, i, err)
			}
		}
		if len(errs) != 5 {
			t.Errorf("%q can be listed", name)
		}
	}
}

func list(t *testing.T, s backup.Store, dir string) (all []string) {
	t.Helper()
	for name, err := range s.List(t.Context(), dir) {
		must(t, err)
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func lists(t *testing.T, s backup.Store) {
	if got := list(t, s, "none"); got != nil {
		t.Errorf("an empty store has %q", got)
	}
	var names []string
	for i := range 1100 { // more than a service tells at once
		name := fmt.Sprintf("l/ab/%04d", i)
		names = append(names, name)
		if i%100 == 0 {
			must(t, s.Put(t.Context(), name, []byte{1}))
		}
	}
	var group sync.WaitGroup
	for part := range slices.Chunk(names, 100) {
		group.Go(func() {
			for _, name := range part[1:] {
				if err := s.Put(t.Context(), name, []byte{1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, name := range []string{"l/abc/x", "l/ab/deeper/x", "l/a", "other/ab/x"} {
		must(t, s.Put(t.Context(), name, []byte{1}))
	}
	if got := list(t, s, "l/ab"); !slices.Equal(got, names) {
		t.Errorf("%d names, want %d", len(got), len(names))
	}
	if got := list(t, s, "l"); !slices.Equal(got, []string{"l/a"}) {
		t.Errorf("below l: %q", got)
	}
	for range s.List(t.Context(), "l/ab") {
		break // a caller may stop
	}
}

func limits(t *testing.T, s backup.Store) {
	must(t, s.Put(t.Context(), "a/b", make([]byte, 100)))
	if got, err := s.Get(t.Context(), "a/b", 100); err != nil || len(got) != 100 {
		t.Errorf("at the limit: %d, %v", len(got), err)
	}
	_, err := s.Get(t.Context(), "a/b", 99)
	if message, _ := block.UserMessage(err); !block.Is(err, block.Corrupt) || !strings.Contains(message, "a/b") {
		t.Errorf("beyond the limit: %v", err)
	}
}

func manyAtOnce(t *testing.T, s backup.Store) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("m/%d/same", j)
				content := bytes.Repeat([]byte{byte(i)}, 1000+i)
				if err := s.Put(t.Context(), name, content); err != nil {
					t.Error(err)
				}
				got, err := s.Get(t.Context(), name, 2000)
				if err != nil || len(got) < 1000 || !bytes.Equal(got, bytes.Repeat(got[:1], 1000+int(got[0]))) {
					t.Errorf("%s is neither one nor the other: %d bytes, %v", name, len(got), err)
				}
			}
		})
	}
	group.Wait()
}

func canceled(t *testing.T, s backup.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "a/b", []byte{1}); err == nil {
		t.Error("an object was written after its call was given up")
	}
	want(t, s, "a/b", nil)
}
