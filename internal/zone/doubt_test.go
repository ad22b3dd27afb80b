package zone_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/test/postgres"
)

// patience is for what has to happen, on a machine however busy.
const patience = 3 * time.Minute

// TestLostCommit: a host's path is taken back, and the answer to the COMMIT is lost.
// Whoever asked for it is told that it failed, and when he asks again there is nothing
// left to take back. The process that serves the zone alone looks at its exports by
// itself, and ends that one.
func TestLostCommit(t *testing.T) {
	server := postgres.Start(t)
	proxy := server.Proxy(t)
	url := serve(t, t.TempDir(), fmt.Sprintf("catalog: {url: %q}\nexports: {nbd: \"127.0.0.1:0\"}",
		proxy.URL(t, server.Database(t))))
	s, err := client.Login(t.Context(), client.Auth{URL: url + "/identity", User: "alice", Password: "a long password",
		Project: "blue"})
	if err != nil {
		t.Fatal(err)
	}
	host := map[string]any{"host": "h"}
	info := volume(t, url, nil)
	all, err := s.Volumes(t.Context(), false)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d volumes, %v", len(all), err)
	}
	id := all[0].ID
	for {
		c, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.WriteAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		lost := proxy.LoseCommit()
		err = s.Disconnect(t.Context(), id, host)
		<-lost
		if err == nil { // the answer to something else was lost
			awaitOK(t, "a host is given a path", func() (err error) {
				info, err = s.Connect(t.Context(), id, host)
				return err
			})
			continue
		}
		if !client.IsStatus(err, http.StatusServiceUnavailable) {
			t.Fatalf("without an answer from the database: %v", err)
		}
		awaitOK(t, "the export ends", func() error {
			if _, err := c.WriteAt(make([]byte, 4096), 0); err == nil {
				return errors.New("it is written to, and the catalog knows nothing of it any more")
			}
			return nil
		})
		return
	}
}

// awaitOK waits until check finds nothing wrong.
func awaitOK(t *testing.T, what string, check func() error) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = check(); last == nil {
			return
		}
	}
	t.Fatalf("not yet: %s: %v", what, last)
}
