package placement

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// disk is a pool of 100 GiB of which half is free.
func disk(name string, change func(*Pool)) Pool {
	p := Pool{Backend: name, Store: name, Known: true, Total: 100, Free: 50,
		Capabilities: map[string][]string{"volume_backend_name": {name}, "storage_protocol": {"iSCSI", "nbd"}}}
	if change != nil {
		change(&p)
	}
	return p
}

func TestFilters(t *testing.T) {
	for name, tt := range map[string]struct {
		r      Request
		p      func(*Pool)
		filter string // "" for none that refuses
		reason string // a part of it
	}{
		"open": {Request{Size: 1}, nil, "", ""},
		"closed": {Request{},
			func(p *Pool) { p.Closed = "it is disabled: new disks" }, "ServiceFilter", "new disks"},
		"meant":         {Request{Only: []string{"b", "a"}}, nil, "", ""},
		"another meant": {Request{Only: []string{"b"}}, nil, "BackendFilter", "only b will do"},
		"none meant":    {Request{Only: []string{}}, nil, "BackendFilter", "only none will do"},
		"store":         {Request{Stores: []string{"a"}}, nil, "", ""},
		"another store": {Request{Stores: []string{"x", "y"}}, nil, "BackendFilter", "only stores x, y"},
		"every zone":    {Request{Zones: []string{"z"}}, nil, "", ""},
		"in zone":       {Request{Zones: []string{"y", "z"}}, func(p *Pool) { p.Zones = []string{"z"} }, "", ""},
		"elsewhere": {Request{Zones: []string{"y"}},
			func(p *Pool) { p.Zones = []string{"z"} }, "AvailabilityZoneFilter", "z"},
		"zone does not count": {Request{}, func(p *Pool) { p.Zones = []string{"z"} }, "", ""},
		"capable":             {Request{Specs: map[string]string{"storage_protocol": "nbd"}}, nil, "", ""},
		"not capable": {Request{Specs: map[string]string{"storage_protocol": "FC"}}, nil, "CapabilitiesFilter",
			`storage_protocol is "iSCSI, nbd", and the type wants "FC"`},
		"unheard of":    {Request{Specs: map[string]string{"capabilities:x": "1"}}, nil, "CapabilitiesFilter", "x"},
		"other scope":   {Request{Specs: map[string]string{"vendor:x": "1", "plain": "2"}}, nil, "", ""},
		"failed before": {Request{Tried: []string{"a"}}, nil, "IgnoreAttemptedHostsFilter", "failed"},
		"same":          {Request{Same: []string{"a"}, Bound: true}, nil, "", ""},
		"not the same":  {Request{Same: []string{"b"}, Bound: true}, nil, "SameBackendFilter", "b"},
		"as nobody":     {Request{Bound: true}, nil, "SameBackendFilter", "none"},
		"different":     {Request{Different: []string{"b"}}, nil, "", ""},
		"not different": {Request{Different: []string{"a"}}, nil, "DifferentBackendFilter", "here"},
		"first refuses": {Request{Different: []string{"a"}, Zones: []string{"y"}}, func(p *Pool) { p.Zones = []string{"z"} },
			"AvailabilityZoneFilter", ""},
	} {
		d := Choose(tt.r, []Pool{disk("a", tt.p)}, Weights{Capacity: 1})
		if tt.filter == "" {
			if d.Backend() != "a" || len(d.Refused) != 0 {
				t.Errorf("%s: refused: %s", name, d)
			}
			continue
		}
		if len(d.Refused) != 1 || d.Backend() != "" || d.Refused[0].Filter != tt.filter ||
			!strings.Contains(d.Refused[0].Reason, tt.reason) {
			t.Errorf("%s: %q, refused: %s; want %s", name, d.Backend(), d, tt.filter)
		}
	}
}

func TestCapacity(t *testing.T) {
	thick := map[string]string{"provisioning:type": "thick"}
	for name, tt := range map[string]struct {
		size  int64
		specs map[string]string
		p     func(*Pool)
		want  bool
	}{
		"thin without a bound":          {100000, nil, nil, true},
		"a full store":                  {1, nil, func(p *Pool) { p.Free = 0 }, false},
		"only what is reserved is left": {1, nil, func(p *Pool) { p.Free, p.Reserved = 10, 10 }, false},
		"a little more is":              {1, nil, func(p *Pool) { p.Free, p.Reserved = 10.5, 10 }, true},
		"nothing is asked":              {0, nil, func(p *Pool) { p.Free = 0 }, true},
		"it tells nothing":              {1, nil, func(p *Pool) { p.Known, p.Free = false, 0 }, true},
		"no bound":                      {1, nil, func(p *Pool) { p.Total, p.Free = 0, 0 }, true},
		"a part of no bound":            {1, nil, func(p *Pool) { p.Total, p.Reserved = 0, 5 }, false},
		"thick fits":                    {50, thick, nil, true},
		"thick does not fit":            {51, thick, nil, false},
		"thick, reserved":               {41, thick, func(p *Pool) { p.Reserved = 10 }, false},
		"thick, placed since":           {41, thick, func(p *Pool) { p.Placed = 10 }, false},
		"thick, placed, fits":           {40, thick, func(p *Pool) { p.Placed = 10 }, true},
		"the last promise":              {20, nil, func(p *Pool) { p.Ratio, p.Promised = 2, 180 }, true},
		"one too many":                  {21, nil, func(p *Pool) { p.Ratio, p.Promised = 2, 180 }, false},
		"thick counts no promises":      {21, thick, func(p *Pool) { p.Ratio, p.Promised = 2, 180 }, true},
		"more than is free, often":      {100, nil, func(p *Pool) { p.Ratio = 2 }, true},
		"more than is free, too often":  {101, nil, func(p *Pool) { p.Ratio, p.Free = 3, 33.5 }, false},
		"placed since":                  {50, nil, func(p *Pool) { p.Ratio, p.Placed = 2, 51 }, false},
		"placed since, fits":            {50, nil, func(p *Pool) { p.Ratio, p.Placed = 2, 50 }, true},
		"a bound that is none":          {1, nil, func(p *Pool) { p.Ratio = 0.5 }, false},
		"automatic, first":              {1000, nil, func(p *Pool) { p.Auto = true }, true},
		"automatic, far too much":       {2001, nil, func(p *Pool) { p.Auto = true }, false},
		"automatic, half used":          {97, nil, func(p *Pool) { p.Auto, p.Promised = true, 100 }, true},
		"automatic, and more":           {199, nil, func(p *Pool) { p.Auto, p.Promised = true, 100 }, false},
	} {
		p := disk("a", tt.p)
		d := Choose(Request{Size: tt.size, Specs: tt.specs}, []Pool{p}, Weights{Capacity: 1})
		if got := d.Backend() == "a"; got != tt.want {
			t.Errorf("%s: taken: %v, %s", name, got, d)
		}
		if d := Choose(Request{Size: tt.size, Specs: tt.specs, At: "a"}, []Pool{p}, Weights{}); d.Backend() != "a" {
			t.Errorf("%s: what is there already: %s", name, d)
		}
	}
}

func TestWeights(t *testing.T) {
	roomier := func(free float64, allocated, promised int64) func(*Pool) {
		return func(p *Pool) { p.Free, p.Allocated, p.Promised = free, allocated, promised }
	}
	bounded := func(ratio float64, promised int64) func(*Pool) {
		return func(p *Pool) { p.Ratio, p.Promised = ratio, promised }
	}
	for name, tt := range map[string]struct {
		r     Request
		pools []Pool
		w     Weights
		want  string
	}{
		"most free": {Request{Size: 1}, []Pool{disk("a", roomier(10, 0, 0)), disk("b", roomier(30, 9, 9)),
			disk("c", roomier(20, 0, 0))}, Weights{Capacity: 1}, "b c a"},
		"least free": {Request{Size: 1}, []Pool{disk("a", roomier(10, 0, 0)), disk("b", roomier(30, 0, 0)),
			disk("c", roomier(20, 0, 0))}, Weights{Capacity: -1}, "a c b"},
		"least allocated": {Request{Size: 1}, []Pool{disk("a", roomier(10, 7, 0)), disk("b", roomier(30, 9, 0)),
			disk("c", roomier(20, 8, 0))}, Weights{Allocated: -1}, "a c b"},
		"both": {Request{Size: 1}, []Pool{disk("a", roomier(10, 0, 0)), disk("b", roomier(30, 100, 0)),
			disk("c", roomier(26, 50, 0))}, Weights{Capacity: 1, Allocated: -0.5}, "c b a"},
		"most promises": {Request{Size: 1}, []Pool{disk("a", bounded(2, 150)), disk("b", bounded(3, 150)),
			disk("c", bounded(2, 100))}, Weights{Capacity: 1}, "b c a"},
		"thick looks at what is free": {Request{Size: 1, Specs: map[string]string{"provisioning:type": "thick"}},
			[]Pool{disk("a", bounded(9, 0)), disk("b", func(p *Pool) { p.Ratio, p.Free = 1, 51 })}, Weights{Capacity: 1}, "b a"},
		"silent stores come last": {Request{Size: 1}, []Pool{disk("a", func(p *Pool) { p.Known = false }),
			disk("b", roomier(1, 0, 0)), disk("c", roomier(2, 0, 0))}, Weights{Capacity: 1}, "c b a"},
		"silent stores come last, always": {Request{Size: 1}, []Pool{disk("a", func(p *Pool) { p.Known = false }),
			disk("b", roomier(1, 0, 0)), disk("c", roomier(2, 0, 0))}, Weights{Capacity: -1}, "b c a"},
		"placed since": {Request{Size: 1}, []Pool{disk("a", func(p *Pool) { p.Placed = 3 }), disk("b", nil)},
			Weights{Capacity: 1}, "b a"},
		"alike": {Request{Size: 1}, []Pool{disk("c", roomier(5, 2, 0)),
			disk("b", func(p *Pool) { p.Free, p.Allocated, p.Volumes = 5, 2, 1 }),
			disk("a", roomier(5, 3, 0))}, Weights{Capacity: 1}, "c b a"},
		"near": {Request{Size: 1, Near: "a"}, []Pool{disk("a", roomier(1, 9, 0)),
			disk("b", func(p *Pool) { p.Store, p.Free = "a", 2 }),
			disk("c", roomier(90, 0, 0))}, Weights{Capacity: 1}, "a b c"},
		"near is refused": {Request{Size: 1, Near: "a"}, []Pool{disk("a", roomier(0, 0, 0)), disk("c", roomier(3, 0, 0)),
			disk("b", roomier(90, 0, 0))}, Weights{Capacity: 1}, "b c"},
	} {
		for range 4 { // whatever the order in which they are given
			rand.Shuffle(len(tt.pools), func(i, j int) { tt.pools[i], tt.pools[j] = tt.pools[j], tt.pools[i] })
			var got []string
			for _, c := range Choose(tt.r, tt.pools, tt.w).Candidates {
				got = append(got, c.Backend)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s: %v, want %s", name, got, tt.want)
			}
		}
	}
}

// TestNeverTooMuch: whatever comes in whatever order, promises keep to the ratio,
// and thick volumes to what is free.
func TestNeverTooMuch(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		pools := make([]Pool, 1+random.IntN(4))
		for i := range pools {
			pools[i] = disk(string(rune('a'+i)), func(p *Pool) {
				p.Free, p.Ratio, p.Reserved = float64(random.IntN(101)), float64(1+random.IntN(3)), random.IntN(30)
			})
		}
		for range 200 {
			r := Request{Size: int64(1 + random.IntN(40))}
			if random.IntN(3) == 0 {
				r.Specs = map[string]string{"provisioning:type": "thick"}
			}
			at := Choose(r, pools, Weights{Capacity: 1}).Backend()
			for i := range pools {
				p := &pools[i]
				if p.Backend != at {
					continue
				}
				if r.Specs != nil && p.Free-p.kept()-float64(p.Placed) < float64(r.Size) {
					t.Fatalf("seed %d: thick %d on %+v", seed, r.Size, *p)
				}
				p.Promised, p.Placed, p.Allocated = p.Promised+r.Size, p.Placed+r.Size, p.Allocated+r.Size
				if r.Specs == nil && float64(p.Promised) > p.Total*p.Ratio {
					t.Fatalf("seed %d: %+v promises too much", seed, *p)
				}
			}
		}
	}
}

// TestFits goes through the operators of extra specs.
func TestFits(t *testing.T) {
	for _, tt := range []struct {
		value, wanted string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "", false}, {"", "", true}, {"a b", "a b", true}, {"<is>", "<is>", true},
		{"True", "<is> true", true}, {"False", "<is> True", false}, {"no", "<is> False", true}, {"1", "<is> yes", true},
		{"12311321", "<in> 11", true}, {"12310321", "<in> 11", false},
		{"b", "<or> a <or> b", true}, {"c", "<or> a <or> b", false}, {"<or>", "<or> a <or> b", false},
		{"abc", "s== abc", true}, {"abc", "s!= abc", false}, {"b", "s> a", true}, {"a", "s> a", false}, {"a", "s>= a", true},
		{"a", "s< b", true}, {"b", "s<= a", false}, {"2", "s< 12", false},
		{"12", "= 12", true}, {"13", "= 12", true}, {"11", "= 12", false}, {"12.0", "== 12", true}, {"12", "!= 12", false},
		{"5", ">= 4.5", true}, {"5", "<= 4.5", false}, {"x", ">= 1", false}, {"5", ">= x", false}, {"5", "> 4", false},
	} {
		if got := Fits(tt.value, tt.wanted); got != tt.want {
			t.Errorf("%q as %q: %v", tt.value, tt.wanted, got)
		}
	}
}

// FuzzFits: whatever tenants' administrators write into extra specs is compared,
// and a type that wants nothing special is satisfied by what it names.
func FuzzFits(f *testing.F) {
	f.Add("5", ">= 4.5")
	f.Add("b", "<or> a <or> b <or>")
	f.Add("", "<in>  ")
	f.Fuzz(func(t *testing.T, value, wanted string) {
		if !strings.ContainsAny(wanted, "<=>!") && Fits(value, wanted) != (value == wanted) {
			t.Fatalf("%q as %q", value, wanted)
		}
		why := Unsatisfied(map[string][]string{"x": {value}}, map[string]string{"capabilities:x": wanted})
		if (why == "") != Fits(value, wanted) {
			t.Fatalf("%q as %q: %s", value, wanted, why)
		}
	})
}

func BenchmarkChoose(b *testing.B) {
	pools := make([]Pool, 32)
	for i := range pools {
		pools[i] = disk("pool-"+string(rune('a'+i)), func(p *Pool) { p.Free, p.Ratio = float64(i), 2 })
	}
	r := Request{Size: 1, Specs: map[string]string{"storage_protocol": "nbd"}, Zones: []string{"z"}}
	for b.Loop() {
		Choose(r, pools, Weights{Capacity: 1})
	}
}
