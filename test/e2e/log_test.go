package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogsAreReadable checks that each line of each zone's log is an object
// that has no key twice, that a peer which is down is told of once and not at
// each try, and that the returned zone said what became of its volume.
func TestLogsAreReadable(t *testing.T) {
	for _, z := range zones.Zones {
		text, err := os.ReadFile(filepath.Join(zones.dir, z.Name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		starts := strings.Count(string(text), `"msg":"zone started"`)
		if n := strings.Count(string(text), "a peer could not be asked for fences"); n > 2*starts {
			t.Errorf("the log of %s tells %d times in %d starts that a peer does not answer", z.Name, n, starts)
		}
		if said := strings.Contains(string(text), "a volume was recovered in another zone"); said != (z.Name == "mitaka1") {
			t.Errorf("the log of %s tells of its own volume's recovery: %v", z.Name, said)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			if key, err := twice(line); err != nil || key != "" {
				t.Errorf("log of %s: key %q twice, %v: %s", z.Name, key, err, line)
			}
		}
	}
}

// twice returns a key that an object has more than once; "" for none.
func twice(object string) (key string, err error) {
	d := json.NewDecoder(strings.NewReader(object))
	if _, err := d.Token(); err != nil {
		return "", err
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return "", err
		}
		key, _ := name.(string)
		if seen[key] {
			return key, nil
		}
		seen[key] = true
	}
	return "", nil
}
