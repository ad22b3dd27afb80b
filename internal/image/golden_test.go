package image

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// request is one exchange of a golden file.
type request struct {
	method, path, token, kind, body string
}

const one = "11111111-2222-4333-8444-555555555555"

const onePath = "/image/v2/images/" + one

var goldens = map[string][]request{
	"versions": {
		{method: "GET", path: "/image"},
		{method: "HEAD", path: "/image/"},
		{method: "HEAD", path: "/image/versions"},
		{method: "GET", path: "/image/v2/nope", token: "alice"},
		{method: "PUT", path: "/image/v2/images", token: "alice"},
		{method: "GET", path: "/image/v2/schemas/image", token: "alice"},
		{method: "HEAD", path: "/image/v2/schemas/images", token: "alice"},
	},
	"images": {
		{method: "GET", path: "/image/v2/images"},
		{method: "GET", path: "/image/v2/images", token: "alice"},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"id":"` + one + `","name":"disk",` +
			`"disk_format":"raw","container_format":"bare","visibility":"private","min_disk":1,"os_type":"linux"}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"id":"` + one + `"}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"size":5}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"min_disk":"many"}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"os_type":5}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `{"visibility":"public"}`},
		{method: "POST", path: "/image/v2/images", token: "reader", body: `{}`},
		{method: "POST", path: "/image/v2/images", token: "alice", body: `[`},
		{method: "GET", path: onePath + "/file", token: "alice"},
		{method: "PUT", path: onePath + "/file", token: "alice", kind: "text/plain", body: "bytes"},
		{method: "PUT", path: onePath + "/file", token: "alice", kind: "application/octet-stream", body: "bytes"},
		{method: "PUT", path: onePath + "/file", token: "alice", kind: "application/octet-stream", body: "bytes"},
		{method: "GET", path: onePath, token: "alice"},
		{method: "GET", path: onePath, token: "bob"},
		{method: "GET", path: "/image/v2/images?limit=1&name=disk", token: "alice"},
		{method: "GET", path: "/image/v2/images?limit=-1", token: "alice"},
		{method: "GET", path: "/image/v2/images?sort=colour", token: "alice"},
		{method: "GET", path: "/image/v2/images?marker=" + one, token: "bob"},
		{method: "PATCH", path: onePath, token: "alice", body: `[]`},
		{method: "PATCH", path: onePath, token: "alice", kind: patchType,
			body: `[{"op":"replace","path":"/name","value":"renamed"},{"op":"add","path":"/a~1b","value":"c"}]`},
		{method: "PATCH", path: onePath, token: "alice", kind: patchType,
			body: `[{"op":"replace","path":"/nope","value":"x"}]`},
		{method: "PATCH", path: onePath, token: "alice", kind: patchType, body: `[{"op":"remove","path":"/name"}]`},
		{method: "PATCH", path: onePath, token: "alice", kind: patchType,
			body: `[{"op":"replace","path":"/disk_format","value":"qcow2"}]`},
		{method: "PUT", path: onePath + "/tags/x", token: "alice"},
		{method: "DELETE", path: onePath + "/tags/x", token: "alice"},
		{method: "DELETE", path: onePath + "/tags/x", token: "alice"},
		{method: "POST", path: onePath + "/actions/deactivate", token: "alice"},
		{method: "POST", path: onePath + "/actions/deactivate", token: "root"},
		{method: "GET", path: onePath + "/file", token: "alice"},
		{method: "POST", path: onePath + "/actions/reactivate", token: "root"},
		{method: "HEAD", path: onePath + "/file", token: "alice"},
		{method: "DELETE", path: onePath, token: "bob"},
		{method: "DELETE", path: onePath, token: "alice"},
		{method: "DELETE", path: onePath, token: "alice"},
	},
}

// The service's answers are those in testdata.
func TestGolden(t *testing.T) {
	for name, requests := range goldens {
		t.Run(name, func(t *testing.T) {
			base := serve(t, newPlace(t).open(t, Config{PublicURL: "http://zone.example"}))
			var b strings.Builder
			for _, q := range requests {
				exchange(t, &b, base, q)
			}
			compare(t, filepath.Join("testdata", name+".txt"), b.String())
		})
	}
}

func exchange(t *testing.T, b *strings.Builder, base string, q request) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, base+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", q.token)
	req.Header.Set("Content-Type", q.kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(b, "> %s %s\n> as %q, %q\n", q.method, q.path, q.token, q.kind)
	if q.body != "" {
		fmt.Fprintf(b, "> %s\n", q.body)
	}
	fmt.Fprintf(b, "< %d\n", resp.StatusCode)
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Md5", "Location", "Allow"} {
		if v := resp.Header.Get(name); v != "" {
			fmt.Fprintf(b, "< %s: %s\n", name, v)
		}
	}
	if len(text) > 0 {
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", " "); err != nil {
			t.Fatalf("%s %s: %v in %s", q.method, q.path, err, text)
		}
		b.WriteString(indented.String() + "\n")
	}
	b.WriteString("\n")
}

// moment is a time of the ticking clock.
var moment = regexp.MustCompile(`2026-04-29T03:0\d:\d\dZ`)

func compare(t *testing.T, path, got string) {
	t.Helper()
	got = moment.ReplaceAllString(got, "<time>")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("answers differ from %s (run with -update and look at the difference):\n%s", path, got)
	}
}
