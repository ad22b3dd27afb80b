package audit_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
)

// chain is a log of n records.
func chain(t testing.TB, n int) (rows []audit.Row) {
	t.Helper()
	var head audit.Head
	for i := range n {
		r, err := head.Add(block.Audit{At: time.Unix(int64(i), 5000), User: "erin", Roles: []string{"admin"}, Remote: "::1",
			Call: "recover", Params: fmt.Sprintf("volume %d\n", i), Code: 202, Operation: fmt.Sprint("op", i)})
		if err != nil {
			t.Fatal(err)
		}
		head = r.Head
		rows = append(rows, r)
	}
	return rows
}

func file(t testing.TB, rows []audit.Row) string {
	t.Helper()
	var b bytes.Buffer
	w, err := audit.NewWriter(&b, "mitaka1", audit.Head{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTamperedChainNamesTheRecord: whatever is done to rows, it is found, and
// the record is named.
func TestTamperedChainNamesTheRecord(t *testing.T) {
	rehash := func(rows []audit.Row, from int) {
		for i := from; i < len(rows); i++ {
			before := audit.Head{Seq: int64(i)}
			if i > 0 {
				before.Hash = rows[i-1].Hash
			}
			rows[i].Head = before.Next(audit.Digest(rows[i].Body))
		}
	}
	edit := func(rows []audit.Row, i int) { rows[i].Body = strings.Replace(rows[i].Body, "erin", "mary", 1) }
	for name, c := range map[string]struct {
		do     func([]audit.Row) []audit.Row
		record int64
	}{
		"nothing":          {func(r []audit.Row) []audit.Row { return r }, 0},
		"a body":           {func(r []audit.Row) []audit.Row { edit(r, 3); return r }, 4},
		"the first body":   {func(r []audit.Row) []audit.Row { edit(r, 0); return r }, 1},
		"body and hash":    {func(r []audit.Row) []audit.Row { edit(r, 3); rehash(r[:4], 3); return r }, 5},
		"the last, hashed": {func(r []audit.Row) []audit.Row { edit(r, 9); rehash(r, 9); return r }, 10},
		"a hash":           {func(r []audit.Row) []audit.Row { r[3].Hash[0]++; return r }, 4},
		"a column":         {func(r []audit.Row) []audit.Row { r[3].Call = "list"; return r }, 4},
		"a time":           {func(r []audit.Row) []audit.Row { r[3].At = time.Unix(0, 0); return r }, 4},
		"deleted":          {func(r []audit.Row) []audit.Row { return slices.Delete(r, 3, 5) }, 4},
		"deleted first":    {func(r []audit.Row) []audit.Row { return r[2:] }, 1},
		"truncated":        {func(r []audit.Row) []audit.Row { return r[:8] }, 9},
		"swapped": {func(r []audit.Row) []audit.Row {
			r[3].Body, r[4].Body = r[4].Body, r[3].Body
			rehash(r, 3)
			return r
		}, 4},
		"added": {func(r []audit.Row) []audit.Row {
			extra, err := r[9].Add(block.Audit{Call: "forged"})
			if err != nil {
				t.Fatal(err)
			}
			return append(r, extra)
		}, 11},
		"inserted": {func(r []audit.Row) []audit.Row {
			extra, err := r[2].Add(block.Audit{Call: "forged"})
			if err != nil {
				t.Fatal(err)
			}
			r = slices.Insert(r, 3, extra)
			for i := 4; i < len(r); i++ {
				r[i].Seq++
			}
			return r
		}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			rows := chain(t, 10)
			kept := rows[9].Head
			check := audit.NewChecker(audit.Head{}, nil)
			for _, r := range c.do(rows) {
				check.Add(r)
			}
			check.End(kept)
			found := check.Problems()
			if c.record == 0 && len(found) != 0 || c.record != 0 && (len(found) == 0 || found[0].Record != c.record ||
				!strings.Contains(found[0].Text, fmt.Sprint(c.record))) {
				t.Errorf("%+v, want record %d", found, c.record)
			}
		})
	}
}

// TestChainWrittenAnewIsSeenByOthers: who rewrites all of it, with the head,
// still contradicts what another zone was told.
func TestChainWrittenAnewIsSeenByOthers(t *testing.T) {
	told := chain(t, 10)[6].Head
	var head audit.Head
	check := audit.NewChecker(audit.Head{}, []audit.Head{told})
	for i := range 10 {
		r, err := head.Add(block.Audit{At: time.Unix(int64(i), 5000), User: "nobody", Call: "list"})
		if err != nil {
			t.Fatal(err)
		}
		head = r.Head
		check.Add(r)
	}
	check.End(head)
	if len(check.Problems()) != 0 {
		t.Fatalf("in itself it is whole: %+v", check.Problems())
	}
	check.Compare("zone kilo1", told)
	if p := check.Problems(); len(p) != 1 || p[0].Record != 7 || !strings.Contains(p[0].Text, "zone kilo1") {
		t.Errorf("%+v", p)
	}
	check.Compare("zone kilo2", audit.Head{Seq: 12})
	if p := check.Problems(); len(p) != 2 || p[1].Record != 11 {
		t.Errorf("%+v", p)
	}
}

// TestFollow: another zone needs the digests alone.
func TestFollow(t *testing.T) {
	rows := chain(t, 10)
	var digests []audit.Hash
	for _, r := range rows[4:] {
		digests = append(digests, audit.Digest(r.Body))
	}
	if rows[3].Follow(digests) != rows[9].Head {
		t.Error("it does not follow")
	}
	digests[2][0]++
	if rows[3].Follow(digests) == rows[9].Head {
		t.Error("another chain follows")
	}
}

// TestFiles are checked without the zone.
func TestFiles(t *testing.T) {
	whole := file(t, chain(t, 10))
	lines := strings.SplitAfter(whole, "\n")
	for name, c := range map[string]struct {
		text   string
		record int64
	}{
		"whole":     {whole, 0},
		"cut":       {strings.Join(lines[:8], ""), 8},
		"missing":   {strings.Join(slices.Delete(slices.Clone(lines), 4, 5), ""), 4},
		"edited":    {strings.Replace(whole, "op5", "op6", 1), 6},
		"appended":  {whole + lines[10], 11},
		"shortened": {strings.Join(slices.Delete(slices.Clone(lines), 9, 11), ""), 9},
	} {
		f, err := audit.CheckFile(strings.NewReader(c.text))
		if err != nil || f.Zone != "mitaka1" ||
			c.record == 0 && (len(f.Problems) > 0 || f.Records != 10 || f.Last.Seq != 10) ||
			c.record > 0 && (len(f.Problems) == 0 || f.Problems[0].Record != c.record) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for _, text := range []string{"", "x", "kvol-audit 1 z -1 00\n", "kvol-audit 2 z 0 " + audit.Hash{}.String()} {
		if _, err := audit.CheckFile(strings.NewReader(text)); !block.Is(err, block.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzCheckFile: no file brings it down, and none passes whose records are not all
// there.
func FuzzCheckFile(f *testing.F) {
	whole := file(f, chain(f, 3))
	f.Add([]byte(whole))
	f.Add([]byte(strings.Replace(whole, "erin", "mary", 1)))
	f.Add([]byte("kvol-audit 1 z 0 " + audit.Hash{}.String() + "\nend 0 " + audit.Hash{}.String() + "\n"))
	f.Add([]byte("end"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := audit.CheckFile(bytes.NewReader(text))
		if err != nil {
			if !block.Is(err, block.Invalid) {
				t.Errorf("an error of kind %v", block.KindOf(err))
			}
			return
		}
		if len(got.Problems) == 0 && got.Last.Seq-got.After.Seq != got.Records {
			t.Errorf("%d records from %d to %d: %q", got.Records, got.After.Seq, got.Last.Seq, text)
		}
	})
}
